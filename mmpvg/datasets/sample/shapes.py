"""The five things that the sample data set shows: their outline and their paint.

A shape lives in its own frame: ``(u, v)`` with the origin at its center and 1 at its radius, v
pointing down.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import Callable

import numpy as np

SAMPLE_CLASSES = ('ball', 'box', 'cone', 'star', 'ring')
SAMPLE_SEG_CLASSES = ('background', *SAMPLE_CLASSES)

# Okabe and Ito's colors, distinct with every common kind of color blindness. RGB.
SAMPLE_PALETTE = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (240, 228, 66), (204, 121, 167))
SAMPLE_SEG_PALETTE = ((80, 80, 80), *SAMPLE_PALETTE)

# Each class has a hue of its own (in turns of the color circle), far from the others' even after
# jitter: a small network on a CPU learns this in minutes. Photographs hold the same hues, so shape
# still counts.
_HUES = {'ball': 0.03, 'box': 0.59, 'cone': 0.38, 'star': 0.145, 'ring': 0.82}
_HUE_JITTER = 0.025


@dataclass(frozen=True)
class Shape:
    """One drawn thing, before it is placed.

    Attributes:
        label: Index into ``SAMPLE_CLASSES``.
        distance: ``(u, v) -> d``, arrays of one shape; the signed distance to the outline in radii,
            negative inside.
        paint: ``(u, v) -> (light, white)``: the factor on the base color, and the share of white (0
            to 1) mixed in.
        color: The base color, (3,), RGB, 0 to 255.
    """

    label: int
    distance: Callable
    paint: Callable
    color: np.ndarray

    def rgb(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The painted color at each point, (*u.shape, 3), 0 to 255."""
        light, white = self.paint(u, v)
        white = np.clip(white, 0.0, 1.0)[..., None]
        return np.clip(self.color * light[..., None], 0, 255) * (1 - white) + 245.0 * white


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draws a shape of a random class, with its proportions, pattern and color."""
    label = int(rng.integers(len(SAMPLE_CLASSES)))
    name = SAMPLE_CLASSES[label]
    distance, paint = _MAKERS[name](rng)
    hue = _HUES[name] + rng.uniform(-_HUE_JITTER, _HUE_JITTER)
    color = hsv_to_rgb(hue % 1.0, rng.uniform(0.65, 0.95), rng.uniform(0.75, 1.0))
    return Shape(label, distance, paint, 255.0 * np.array(color))


def _ball(rng: np.random.Generator):
    """A lit sphere with a highlight."""
    angle = rng.uniform(0, 2 * np.pi)
    to_light = 0.55 * np.cos(angle), 0.55 * np.sin(angle), 0.835

    def distance(u, v):
        return np.hypot(u, v) - 1

    def paint(u, v):
        depth = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
        facing = np.clip(u * to_light[0] + v * to_light[1] + depth * to_light[2], 0, 1)
        return 0.4 + 0.75 * facing, (facing - 0.95) / 0.05

    return distance, paint


def _box(rng: np.random.Generator):
    """A parcel: a rounded rectangle with a white ribbon."""
    half_u, half_v = 0.8, 0.8 * rng.uniform(0.65, 1.0)
    ribbon = rng.uniform(0.1, 0.16)
    shift = rng.uniform(-0.2, 0.2)
    corner = 0.06

    def distance(u, v):
        du, dv = np.abs(u) - half_u + corner, np.abs(v) - half_v + corner
        outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
        return outside + np.minimum(np.maximum(du, dv), 0) - corner

    def paint(u, v):
        on_ribbon = (np.abs(u - shift) < ribbon) | (np.abs(v) < ribbon)
        edge = np.clip((distance(u, v) + 0.12) / 0.12, 0, 1)
        return 1 - 0.4 * edge + 0.12 * u, 0.85 * on_ribbon

    return distance, paint


def _cone(rng: np.random.Generator):
    """A cone seen from the side: a triangle in dark and bright bands."""
    half_base = rng.uniform(0.65, 0.85)
    corners = np.array([(0, -1.0), (half_base, 0.85), (-half_base, 0.85)])
    bands, phase = rng.uniform(2.0, 3.0), rng.uniform()

    def distance(u, v):
        return _polygon_distance(u, v, corners)

    def paint(u, v):
        bright = (v * bands + phase) % 1.0 < 0.55
        return np.where(bright, 1.0, 0.5) * (1 - 0.3 * u), np.zeros_like(u)

    return distance, paint


def _star(rng: np.random.Generator):
    """A star of five points with folded facets."""
    inner = rng.uniform(0.46, 0.56)
    angles = np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, inner, 1.0)
    corners = np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)

    def distance(u, v):
        return _polygon_distance(u, v, corners)

    def paint(u, v):
        facet = np.floor((np.arctan2(u, -v) / (np.pi / 5)) % 2)
        return np.where(facet == 0, 1.05, 0.72), np.zeros_like(u)

    return distance, paint


def _ring(rng: np.random.Generator):
    """A swimming ring: a torus with white sectors. Its hole belongs to whatever lies behind."""
    half = rng.uniform(0.24, 0.3)
    sectors = int(rng.integers(3, 6))

    def distance(u, v):
        return np.abs(np.hypot(u, v) - (1 - half)) - half

    def paint(u, v):
        across = np.clip((np.hypot(u, v) - (1 - half)) / half, -1, 1)
        sector = np.sin(sectors * np.arctan2(v, u)) > 0.5
        return 0.5 + 0.55 * np.sqrt(1 - across**2), 0.75 * sector

    return distance, paint


_MAKERS = {'ball': _ball, 'box': _box, 'cone': _cone, 'star': _star, 'ring': _ring}


def _polygon_distance(u: np.ndarray, v: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance to a simple polygon, negative inside. ``corners``: (N, 2)."""
    nearest = np.full(u.shape, np.inf)
    inside = np.zeros(u.shape, dtype=bool)
    for i in range(len(corners)):
        (u0, v0), (u1, v1) = corners[i - 1], corners[i]
        eu, ev = u1 - u0, v1 - v0
        t = np.clip(((u - u0) * eu + (v - v0) * ev) / (eu**2 + ev**2), 0, 1)
        nearest = np.minimum(nearest, (u - u0 - t * eu) ** 2 + (v - v0 - t * ev) ** 2)
        # Even-odd rule: a ray towards +u flips the answer at every edge that it crosses.
        if v0 != v1:
            inside ^= ((v0 > v) != (v1 > v)) & (u < (v - v0) * eu / ev + u0)
    return np.where(inside, -1.0, 1.0) * np.sqrt(nearest)

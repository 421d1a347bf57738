"""Random inputs of operators, of small sizes, drawn from a generator of numpy."""

import numpy as np
import torch


def tensor(rng, *shape, scale=1.0):
    return torch.from_numpy(rng.normal(size=shape) * scale)


def boxes(rng, n, side=100.0, whole=False, flat=0.1):
    """(n, 4) boxes; ``flat`` of them have no area, and ``whole`` ones lie on whole pixels."""
    corners = rng.uniform(0, side, (n, 2))
    sides = rng.uniform(0, side / 3, (n, 2)) * (rng.random((n, 2)) > flat)
    both = np.concatenate([corners, corners + sides], 1)
    return torch.from_numpy((np.round(both) if whole else both).astype(np.float32))


def scores(rng, n, ties=False):
    """(n,) scores; with ``ties`` many are equal."""
    return torch.from_numpy((rng.integers(0, 8, n) / 8 if ties else rng.random(n)).astype('f4'))


def rois(rng, k, batch, height, width, flat=0.1):
    """(k, 5); some reach over the edge."""
    corners = rng.uniform(-3, (width, height), (k, 2))
    sides = rng.uniform(0, (width, height), (k, 2)) * (rng.random((k, 2)) > flat)
    index = rng.integers(0, batch, (k, 1))
    return torch.from_numpy(np.concatenate([index, corners, corners + sides], 1))


def pair(rng, low, high):
    return tuple(int(n) for n in rng.integers(low, high + 1, 2))


def convolution(rng, modulated=False):
    """Arguments of ``calls.deform_conv`` or ``calls.modulated_deform_conv`` after ``ext``."""
    from tests.ops.calls import output_size

    batch, groups, deform_groups = (int(rng.integers(1, 3)) for _ in range(3))
    # Both kinds of groups divide the channels.
    channels, filters = 2 * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    kernel, stride, dilation = pair(rng, 1, 3), pair(rng, 1, 2), pair(rng, 1, 2)
    padding = pair(rng, 0, 2)
    size = pair(rng, 5, 8)
    x = tensor(rng, batch, channels, *size)
    weight = tensor(rng, filters, channels // groups, *kernel)
    points = deform_groups * kernel[0] * kernel[1]
    out = output_size(x, weight, stride, padding, dilation)
    offset = tensor(rng, batch, 2 * points, *out, scale=2)
    if rng.random() < 0.1:
        offset = offset.round()
    where = (stride, padding, dilation, groups, deform_groups)
    if not modulated:
        return (x, offset, weight), where
    mask = torch.from_numpy(rng.random((batch, points, *out)))
    bias = tensor(rng, filters) if rng.random() < 0.5 else None
    return (x, offset, mask, weight, bias), where


def attention(rng):
    """Value, shapes, starts, locations and weights."""
    batch, heads, queries, points, levels = (int(rng.integers(1, n)) for n in (3, 4, 8, 4, 4))
    shapes = torch.from_numpy(rng.integers(1, 7, (levels, 2)))
    pixels = shapes.prod(1)
    starts = torch.cat([pixels.new_zeros(1), pixels.cumsum(0)[:-1]])
    value = tensor(rng, batch, int(pixels.sum()), heads, int(rng.integers(1, 6)))
    # Some lie outside of the map.
    locations = torch.from_numpy(rng.uniform(-0.3, 1.3, (batch, queries, heads, levels, points, 2)))
    weights = torch.from_numpy(rng.random((batch, queries, heads, levels, points)))
    return value, shapes, starts, locations, weights

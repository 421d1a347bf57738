"""One scene of the sample data set: a piece of a photograph with shapes laid over it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mmpvg.utils.errors import MissingFileError

from .shapes import Shape, draw_shape

# Photographs inside scikit-image's own wheel. No photograph serves both splits.
SAMPLE_PHOTOS = {
    'train': (
        'astronaut.png',
        'camera.png',
        'chelsea.png',
        'grass.png',
        'gravel.png',
        'hubble_deep_field.jpg',
        'ihc.png',
        'moon.png',
        'retina.jpg',
        'rocket.jpg',
    ),
    'val': ('brick.png', 'coffee.png', 'coins.png', 'motorcycle_left.png'),
}

# Heights and widths in pixels. Multiples of 8 are left out: padding to the patch is always at work.
SAMPLE_SIDES = tuple(side for side in range(97, 144) if side % 8)

_MAX_OBJECTS = 5
_DIAMETERS = (0.28, 0.60)  # of the short side
_CROWDED_DIAMETER = 0.45  # the upper end from four objects on
# An object is not laid where it would hide more of an earlier one than this leaves.
_MIN_VISIBLE = 0.45
_TRIES = 20


@dataclass(frozen=True)
class Scene:
    """A rendered scene with exact ground truth.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        instances: (H, W) uint8; 0 is background, k the k-th object where it shows.
        labels: Index into ``SAMPLE_CLASSES`` of object 1, 2, ...
        visible: Visible share of each object's area inside the image.
        photo: File name of the photograph behind.
    """

    image: np.ndarray
    instances: np.ndarray
    labels: tuple[int, ...]
    visible: tuple[float, ...]
    photo: str

    def semantic(self) -> np.ndarray:
        """The ADE-style map, (H, W) uint8: 0 unlabeled, 1 background, 2 + label for objects.

        Unlabeled is a line one pixel wide along every outline, where the pixels mix two things.
        """
        classes = np.array([1, *(label + 2 for label in self.labels)], dtype=np.uint8)
        seg_map = classes[self.instances]
        seg_map[:-1][self.instances[:-1] != self.instances[1:]] = 0
        seg_map[:, :-1][self.instances[:, :-1] != self.instances[:, 1:]] = 0
        return seg_map


def load_photos(split: str) -> dict[str, Image.Image]:
    """Reads the photographs of a split from the installed scikit-image, by file name, RGB.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        MissingFileError: This build of scikit-image does not have one of the photographs.
    """
    # Found without importing it: only its files are wanted, and `skimage.data` may download.
    spec = importlib.util.find_spec('skimage')
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            'the sample data set takes its backgrounds from scikit-image, which is not installed; '
            'run: pip install scikit-image'
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / 'data'
    photos = {}
    for name in SAMPLE_PHOTOS[split]:
        if not (folder / name).is_file():
            raise MissingFileError(
                f'{folder / name} is missing: this scikit-image does not carry its photographs; '
                'install the wheel: pip install --force-reinstall --only-binary :all: scikit-image'
            )
        with Image.open(folder / name) as photo:
            photos[name] = photo.convert('RGB')
    return photos


def render_scene(rng: np.random.Generator, photos: dict[str, Image.Image]) -> Scene:
    """Draws a scene of one to five objects, none of them nearly hidden.

    Args:
        rng: The only source of chance.
        photos: Backgrounds are cut from them; see ``load_photos``.
    """
    height, width = rng.choice(SAMPLE_SIDES, size=2, replace=False)  # so never square
    photo = str(rng.choice(sorted(photos)))
    canvas = _background(rng, photos[photo], int(height), int(width))
    instances = np.zeros((height, width), dtype=np.uint8)
    labels: list[int] = []
    areas: list[int] = []

    wanted = int(rng.integers(1, _MAX_OBJECTS + 1))
    largest = _DIAMETERS[1] if wanted < 4 else _CROWDED_DIAMETER
    for _ in range(wanted):
        shape = draw_shape(rng)
        radius = min(height, width) * rng.uniform(_DIAMETERS[0], largest) / 2
        frame = _place(rng, shape, radius, instances, areas)
        if frame is None:  # the scene is full
            continue
        _paint(rng, canvas, shape, frame, radius)
        mask = shape.distance(*frame) <= 0
        labels.append(shape.label)
        areas.append(int(mask.sum()))
        instances[mask] = len(labels)

    visible = _visible_areas(instances, len(areas)) / np.array(areas)
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Scene(image, instances, tuple(labels), tuple(visible.tolist()), photo)


def _background(rng, photo: Image.Image, height: int, width: int) -> np.ndarray:
    """A piece of the photograph, (height, width, 3) float, mirrored and recolored at random."""
    fits = min(photo.width / width, photo.height / height)
    zoom = rng.uniform(1.0, min(fits, 3.0))
    left = rng.uniform(0, photo.width - zoom * width)
    top = rng.uniform(0, photo.height - zoom * height)
    box = (left, top, left + zoom * width, top + zoom * height)
    pixels = np.asarray(photo.resize((width, height), Image.BICUBIC, box=box), dtype=np.float64)
    if rng.uniform() < 0.5:
        pixels = pixels[:, ::-1]
    # Paler than the objects, and not always in the few colors that the photographs happen to have.
    gray = pixels.mean(axis=2, keepdims=True)
    pixels = gray + (pixels - gray) * rng.uniform(0.35, 0.9)
    return pixels * rng.uniform(0.7, 1.05) * rng.uniform(0.88, 1.12, size=3)


def _place(rng, shape: Shape, radius: float, instances: np.ndarray, areas: Sequence[int]):
    """Finds a spot that leaves every earlier object recognizable: the frame ``(u, v)``, or None."""
    height, width = instances.shape
    margin = 0.75 * radius  # objects may leave the image a little
    for _ in range(_TRIES):
        x = rng.uniform(margin, width - margin)
        y = rng.uniform(margin, height - margin)
        frame = _frame(x, y, rng.uniform(0, 2 * np.pi), radius, height, width)
        left = np.where(shape.distance(*frame) <= 0, 0, instances)
        if np.all(_visible_areas(left, len(areas)) >= _MIN_VISIBLE * np.array(areas)):
            return frame
    return None


def _frame(x: float, y: float, angle: float, radius: float, height: int, width: int):
    """Pixel centers as a shape at (x, y), turned by ``angle``, sees them: u and v, (H, W) each."""
    dy, dx = np.mgrid[:height, :width] + 0.5
    dx, dy = (dx - x) / radius, (dy - y) / radius
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * dx + sin * dy, cos * dy - sin * dx


def _paint(rng, canvas: np.ndarray, shape: Shape, frame, radius: float) -> None:
    """Lays the shape over ``canvas`` in place, its drop shadow first."""
    u, v = frame
    away = rng.uniform(0, 2 * np.pi)
    shadow = shape.distance(u - 0.12 * np.cos(away), v - 0.12 * np.sin(away))
    canvas *= 1 - 0.45 * np.clip(0.5 - shadow / 0.3, 0, 1)[..., None]
    cover = np.clip(0.5 - shape.distance(u, v) * radius, 0, 1)[..., None]  # smooth over one pixel
    grain = 1 + rng.normal(0, 0.04, size=u.shape)[..., None]
    canvas += cover * (shape.rgb(u, v) * grain - canvas)


def _visible_areas(instances: np.ndarray, count: int) -> np.ndarray:
    """Pixels of objects 1 to ``count``, (count,)."""
    return np.bincount(instances.ravel(), minlength=count + 1)[1 : count + 1]

"""Writes scikit-learn's handwritten digits as images in folders, the layout of mmpretrain.

::

    OUT/train/{0,...,9}/0000.png    8x8 gray images, enlarged to whole squares of pixels
    OUT/val/{0,...,9}/0003.png
    OUT/partition.txt               for retrieval, as mmpretrain's InShop reads it: train images to
                                    train on, one half of val to query with, the other to search
    OUT/mmpvg_digits.json           what OUT was made with; written last
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .folder import make_once, whole_number

DIGITS_STAMP = 'mmpvg_digits.json'
DIGIT_CLASSES = tuple(map(str, range(10)))
_VAL_SHARE = 0.2


def make_digits_dataset(
    out_dir: str | Path, scale: int = 4, seed: int = 0, force: bool = False
) -> dict[str, int]:
    """Makes the digits data set, or finds that it is already made.

    The folder appears at the end, whole.

    Args:
        out_dir: The folder to make.
        scale: Pixels of a side that each of the 8 becomes; 4 gives images of 32x32.
        seed: Which fifth of each digit is for validation.
        force: Replace a data set that was made with other arguments or is damaged.

    Returns:
        Images of each split.

    Raises:
        FileExistsError: See ``make_once``.
        ImportError: scikit-learn, which holds the digits, is not there.
        UserError: ``scale`` below 1 or a negative seed.

    Examples:
        >>> from mmpvg.datasets.sample import make_digits_dataset
        >>> make_digits_dataset('data/digits')
        {'train': 1438, 'val': 359}
    """
    arguments = {
        'scale': whole_number('scale', scale, at_least=1),
        'seed': whole_number('seed', seed, at_least=0),
    }

    def write(folder: Path) -> dict:
        images, labels = _load_digits()
        for index, (image, label, split) in enumerate(zip(images, labels, _split(labels, seed))):
            path = folder / split / DIGIT_CLASSES[label] / f'{index:04d}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.kron(image, np.ones((scale, scale)))  # 0 to 16
            Image.fromarray(np.uint8(pixels * 255 / 16)).save(path)
        _write_partition(folder)
        return {'images': _count(folder)}

    return make_once(out_dir, DIGITS_STAMP, arguments, force, write, _damage)[0]['images']


def _damage(folder: Path, stamp: dict) -> str:
    counts = _count(folder)
    return '' if counts == stamp['images'] else f'{folder} holds {counts} images'


def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits come with scikit-learn: run `pip install scikit-learn`'
        ) from error
    digits = load_digits()
    return digits.images, digits.target


def _split(labels: np.ndarray, seed: int) -> np.ndarray:
    """``train`` or ``val`` for every image, a fifth of each digit for validation."""
    rng = np.random.default_rng(seed)
    splits = np.full(len(labels), 'train', dtype=object)
    for label in range(10):
        of_label = rng.permutation(np.flatnonzero(labels == label))
        splits[of_label[: round(_VAL_SHARE * len(of_label))]] = 'val'
    return splits


def _write_partition(folder: Path) -> None:
    """Write InShop's list: a count, a header, and ``image item status`` lines."""
    lines = []
    for path in sorted(folder.glob('*/*/*.png')):
        split, digit, _ = path.relative_to(folder).parts
        of_split = ('query', 'gallery') if split == 'val' else ('train',)
        lines.append((path.relative_to(folder).as_posix(), digit, of_split))
    rows = [
        f'{name} digit_{digit} {of_split[index % len(of_split)]}'
        for index, (name, digit, of_split) in enumerate(lines)
    ]
    text = '\n'.join([str(len(rows)), 'image_name item_id evaluation_status', *rows])
    (folder / 'partition.txt').write_text(text + '\n', encoding='utf-8')


def _count(folder: Path) -> dict[str, int]:
    return {split: len(list((folder / split).glob('*/*.png'))) for split in ('train', 'val')}

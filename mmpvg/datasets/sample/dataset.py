"""Writes the sample data set: COCO JSON for mmdet and ADE-style PNG for mmseg, of the same scenes.

::

    OUT/images/{train,val}/000000.jpg              the scenes
    OUT/annotations/instances_{train,val}.json     COCO: ids from 1, masks as RLE (rings have holes)
    OUT/annotations/{train,val}/000000.png         0 unlabeled, 1 background, 2... SAMPLE_CLASSES
    OUT/mmpvg_sample.json                          what OUT was made with; written last
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .folder import make_once, whole_number
from .split import SAMPLE_SPLITS, write_split

STAMP_NAME = 'mmpvg_sample.json'

# Part of the stamp. Raise it with any change to what a seed gives.
_VERSION = 1


@dataclass(frozen=True)
class SampleSummary:
    """Counts of a sample data set.

    Attributes:
        out_dir: Folder of the data set.
        images: Images in each split.
        objects: Objects of each class in each split.
        created: False if a matching data set was there already.
    """

    out_dir: Path
    images: dict[str, int]
    objects: dict[str, dict[str, int]]
    created: bool


def make_sample_dataset(
    out_dir: str | Path,
    num_train: int = 320,
    num_val: int = 80,
    seed: int = 0,
    force: bool = False,
    progress: bool = True,
) -> SampleSummary:
    """Makes the sample data set, or finds that it is already made.

    Scene ``i`` of a split depends on ``(seed, split, i)`` alone, so a larger data set begins with
    the smaller one. The folder appears at the end, whole.

    Args:
        out_dir: The folder to make.
        num_train: Training images.
        num_val: Validation images; their photographs appear in no training image.
        seed: Not negative. The same seed gives the same bytes.
        force: Replace a data set that was made with other arguments or is damaged.
        progress: Show a progress bar.

    Raises:
        UserError: A count below 1 or a negative seed.
        FileExistsError: See ``make_once``.

    Examples:
        >>> from mmpvg.datasets.sample import make_sample_dataset
        >>> make_sample_dataset('data/sample', num_train=8, num_val=2).images
        {'train': 8, 'val': 2}
    """
    images = {
        'train': whole_number('num_train', num_train, at_least=1),
        'val': whole_number('num_val', num_val, at_least=1),
    }
    arguments = {**images, 'seed': whole_number('seed', seed, at_least=0), 'version': _VERSION}

    def write(folder: Path) -> dict:
        with tqdm(
            total=sum(images.values()), desc='sample data', unit='image', disable=not progress
        ) as bar:
            return {
                'objects': {
                    split: write_split(folder, split, images[split], arguments['seed'], bar)
                    for split in SAMPLE_SPLITS
                }
            }

    made, created = make_once(out_dir, STAMP_NAME, arguments, force, write, _damage)
    return SampleSummary(Path(out_dir).resolve(), images, made['objects'], created)


def _damage(out_dir: Path, stamp: dict) -> str:
    for split in SAMPLE_SPLITS:
        for folder, suffix in (('images', 'jpg'), ('annotations', 'png')):
            found = len(list((out_dir / folder / split).glob(f'*.{suffix}')))
            if found != stamp['arguments'][split]:
                return (
                    f'{out_dir / folder / split} holds {found} .{suffix} files instead of '
                    f'{stamp["arguments"][split]}'
                )
    return ''

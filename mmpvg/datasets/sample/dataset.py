"""Writes the sample data set: COCO JSON for mmdet and ADE-style PNG for mmseg, of the same scenes.

::

    OUT/images/{train,val}/000000.jpg              the scenes
    OUT/annotations/instances_{train,val}.json     COCO: ids from 1, masks as RLE (rings have holes)
    OUT/annotations/{train,val}/000000.png         0 unlabeled, 1 background, 2... SAMPLE_CLASSES
    OUT/mmpvg_sample.json                          what OUT was made with; written last
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from .split import SAMPLE_SPLITS, whole_number, write_json, write_split

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
    the smaller one. The files are gathered in ``<out_dir>.partial`` and moved at the end.

    Args:
        out_dir: The folder to make.
        num_train: Training images.
        num_val: Validation images; their photographs appear in no training image.
        seed: Not negative. The same seed gives the same bytes.
        force: Replace a data set that was made with other arguments.
        progress: Show a progress bar.

    Raises:
        UserError: A count below 1 or a negative seed.
        FileExistsError: ``out_dir`` holds a data set that was made with other arguments or is
            damaged (and ``force`` is False), or files that are no sample data set (these are never
            replaced).

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
    out_dir = Path(out_dir).resolve()  # through links: the folder is replaced, not the link to it
    if not force:
        found = _existing(out_dir, arguments)
        if found is not None:
            return SampleSummary(out_dir, images, found, created=False)
    elif _has_files(out_dir) and not (out_dir / STAMP_NAME).is_file():
        raise FileExistsError(_not_ours(out_dir))

    partial = out_dir.with_name(out_dir.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    bar = _progress_bar(sum(images.values())) if progress else None
    objects = {
        split: write_split(partial, split, images[split], arguments['seed'], bar)
        for split in SAMPLE_SPLITS
    }
    if bar is not None:
        bar.close()
    write_json(partial / STAMP_NAME, {'arguments': arguments, 'objects': objects})
    if out_dir.exists():
        shutil.rmtree(out_dir)
    partial.rename(out_dir)
    return SampleSummary(out_dir, images, objects, created=True)


def _existing(out_dir: Path, arguments: dict) -> dict | None:
    """The object counts of a matching data set in ``out_dir``; None if there is nothing yet."""
    if not _has_files(out_dir):
        return None
    stamp_path = out_dir / STAMP_NAME
    if not stamp_path.is_file():
        raise FileExistsError(_not_ours(out_dir))
    stamp = json.loads(stamp_path.read_text(encoding='utf-8'))
    if stamp['arguments'] != arguments:
        raise FileExistsError(
            f'{out_dir} holds a sample data set made with {_spell(stamp["arguments"])}, '
            f'but {_spell(arguments)} was asked for; '
            'pass --force (force=True) to replace it, or another --out'
        )
    for split in SAMPLE_SPLITS:
        for folder, suffix in (('images', 'jpg'), ('annotations', 'png')):
            found = len(list((out_dir / folder / split).glob(f'*.{suffix}')))
            if found != arguments[split]:
                raise FileExistsError(
                    f'{out_dir / folder / split} holds {found} .{suffix} files instead of '
                    f'{arguments[split]}; pass --force (force=True) to make the data set again'
                )
    return stamp['objects']


def _not_ours(out_dir: Path) -> str:
    return (
        f'{out_dir} is not empty and holds no {STAMP_NAME}: it is no sample data set and is left '
        'alone; choose another --out (out_dir) or empty it yourself'
    )


def _has_files(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _spell(arguments: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in sorted(arguments.items()))


def _progress_bar(total: int):
    from tqdm import tqdm

    return tqdm(total=total, desc='sample data', unit='image')

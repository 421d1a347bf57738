"""Checks that the data of a config exist before anything is built."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config

from mmpvg.datasets.checks.sources import DOWNLOADED, datasets_in, on_local_disk
from mmpvg.utils.errors import MissingFileError, UserError

from .data_formats import refuse_code_in_data


def check_data_files(cfg: Config, *splits: str) -> None:
    """Check that annotation files and image folders of a config are there.

    Data behind a URL or another file backend than the local disk, or that a data set downloads
    itself, are not checked.

    Args:
        cfg: The config.
        *splits: Out of ``train``, ``val`` and ``test``.

    Raises:
        MissingFileError: If something is missing; names the setting, the path and the fix.
        UserError: If annotations are in a format that runs code, or paths are relative to an
            ``http`` URL.
    """
    refuse_code_in_data(cfg, *splits)
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for key, dataset in datasets_in(loader, f'{split}_dataloader'):
            fetched = dataset.get('type') in DOWNLOADED and dataset.get('download', True)
            if not on_local_disk(dataset) or fetched:
                continue
            for setting, path in _paths(dataset):
                root = dataset.get('data_root') or ''
                if root.startswith('http') and setting != 'data_root' and path.count('://') == 1:
                    raise UserError(
                        f'{key}.data_root is {root}, below which mmengine finds no files; set '
                        f'data_root="" and {key}.{setting} to the whole URL'
                    )
                if '://' not in path and not osp.exists(path):
                    raise MissingFileError(
                        f'{key}.{setting} points to {path}, which does not exist in '
                        f'{osp.abspath(".")}; prepare the data set as the README describes, or set '
                        f'--cfg-options {key}.data_root=FOLDER'
                    )


def _paths(dataset: dict) -> Iterator[tuple[str, str]]:
    root = dataset.get('data_root') or ''
    if root:
        yield 'data_root', root
    if dataset.get('ann_file'):
        yield 'ann_file', osp.join(root, dataset['ann_file'])
    prefix = dataset.get('data_prefix') or {}
    if isinstance(prefix, str):
        yield 'data_prefix', osp.join(root, prefix)
        return
    for name, folder in prefix.items():
        if folder is not None:
            yield f'data_prefix.{name}', osp.join(root, folder)

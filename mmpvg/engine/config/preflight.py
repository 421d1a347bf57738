"""Checks that the data of a config exist, and refuses formats that run code."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmpvg.checkpoints.safe_load import RefusedFileError
from mmpvg.datasets.checks.sources import DOWNLOADED, datasets_in, on_local_disk
from mmpvg.utils.errors import MissingFileError, UserError

# What reads files of a name in mmengine, mmdet, mmseg and mmpretrain. RefCOCO's splits are .p, the
# classes of Open Images .np.
_READERS = {
    '.pkl': 'pickle',
    '.pickle': 'pickle',
    '.p': 'pickle',
    '.np': 'pickle',
    '.yaml': "PyYAML's full loader",
    '.yml': "PyYAML's full loader",
}

# Settings of files that are written, of checkpoints, which have their own reader, and of names.
_OTHERS = (
    'checkpoint',
    'classes',
    'out_dir',
    'out_file_path',
    'outfile_prefix',
    'output_dir',
    'pretrained',
)


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


def refuse_code_in_data(cfg: Config, *splits: str) -> None:
    """Refuse annotations and other files of a config that would be unpickled, or read as full YAML.

    Upstream chooses the reader by the file name. Checks the data loaders with their wrapped data
    sets and transforms, the evaluators, and the model.

    Args:
        cfg: The config.
        *splits: Out of ``train``, ``val`` and ``test``.

    Raises:
        RefusedFileError: If there is one; names the setting, the file and the fix.
    """
    parts = [f'{split}_{part}' for split in splits for part in ('dataloader', 'evaluator')]
    for name in (*parts, 'model'):
        for key, setting, value in _texts(cfg.get(name), name):
            reader = _READERS.get(Path(value).suffix.lower())
            if setting == 'decode_backend' and value == 'pickle':
                reader = 'pickle'
            elif setting == 'prototype':
                # Of a retriever; before 2.6 torch.load unpickles.
                reader = 'torch.load'
            if reader and setting not in _OTHERS:
                raise RefusedFileError(
                    f'{key} is {value}: it would be read with {reader}, which can run any code; '
                    'give the data as JSON, text or images'
                )


def _texts(node: Any, key: str, setting: str = '') -> Iterator[tuple[str, str, str]]:
    """Yield every text below a part of a config, with its key and its setting."""
    if isinstance(node, (str, Path)):
        yield key, setting, str(node)
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _texts(child, f'{key}.{name}', name)
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from _texts(child, f'{key}.{index}', setting)

"""Looking for the data before anything is built."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from .data_formats import refuse_code_in_data

# Data sets of mmpretrain that fetch their own files.
_DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check_data_files(cfg: Config, *splits: str) -> None:
    """Check that annotation files and image folders of a config are there.

    A run that lacks one would otherwise fail after minutes, or only at its first validation. Data
    behind a file backend other than the local disk, or that a data set downloads itself, is not
    looked for.

    Args:
        cfg: The config.
        *splits: Out of ``train``, ``val`` and ``test``.

    Raises:
        FileNotFoundError: If something is missing. It names the setting, the path, and the fix.
        ValueError: If annotations are in a format that runs code.
    """
    refuse_code_in_data(cfg, *splits)
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for key, dataset in datasets_in(loader, f'{split}_dataloader'):
            fetched = dataset.get('type') in _DOWNLOADED and dataset.get('download', True)
            if dataset.get('backend_args') is not None or fetched:
                continue
            for setting, path in _paths(dataset):
                if not osp.exists(path):
                    raise FileNotFoundError(
                        f'{key}.{setting} points to {path}, which does not exist in '
                        f'{osp.abspath(".")}; prepare the data set as the README describes, or set '
                        f'--cfg-options {key}.data_root=FOLDER'
                    )


def datasets_in(node: Any, key: str) -> Iterator[tuple[str, dict]]:
    """Every data set below a dataloader, wrapped ones included, with its key in the config."""
    if isinstance(node, dict):
        if any(setting in node for setting in ('data_root', 'data_prefix', 'ann_file')):
            yield key, node
        for name in ('dataset', 'datasets'):
            yield from datasets_in(node.get(name), f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from datasets_in(child, f'{key}.{index}')


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

"""Refuses data in formats that run code when they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmpvg.checkpoints.safe_load import RefusedFileError

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

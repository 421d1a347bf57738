"""Reading what mmengine takes as a checkpoint, without running what it holds."""

from __future__ import annotations

import os.path as osp
from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmpvg.utils.errors import MissingFileError, UserError

from .finite_state import first_of, not_finite_in
from .reading import download
from .safe_load import RefusedFileError, load_pth, placeholders_in


def read_checkpoint(source: str | Path, whole: bool = False) -> Any:
    """Read a checkpoint through ``load_pth``, without a config that mmengine would evaluate.

    Args:
        source: A file, a URL, or a name of mmengine's model zoos, such as ``torchvision://resnet50``.
        whole: Refuse a checkpoint of which a part is not built or not finite: a run that resumes
            from it would continue differently. Weights alone do not need the rest.

    Returns:
        What it holds, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        RefusedFileError: A ``ValueError``, if it is not read. A downloaded file is removed then.
        ValueError: If it cannot be downloaded.
    """
    source = str(source)
    url = _url_of(source)
    path = osp.expanduser(source) if url is None else download(url)
    if not osp.isfile(path):
        raise MissingFileError(f'checkpoint {path} does not exist; give a .pth file or a URL')
    try:
        checkpoint = load_pth(path)
    except RefusedFileError as error:
        if url is None:
            raise
        # Cut short, most likely; the next run downloads it again.
        Path(path).unlink(missing_ok=True)
        raise RefusedFileError(f'{error}; the download of {url} is removed') from None
    if whole and (unread := placeholders_in(checkpoint)):
        raise RefusedFileError(
            f'cannot resume from {path}: it holds objects of {", ".join(sorted(unread))}, and only '
            'numbers and containers are built from a file; to start from its weights alone, set '
            '--cfg-options load_from=FILE instead of --resume'
        )
    if whole and (bad := not_finite_in(checkpoint)):
        raise RefusedFileError(
            f'cannot resume from {path}: {first_of(bad)} is not finite; resume from an earlier one'
        )
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
        # mmengine evaluates this one on resume; its own checkpoints have 'cfg'.
        checkpoint['meta'].pop('config', None)
    if source.startswith('mmcls://'):
        checkpoint = mmengine_checkpoint._process_mmcls_checkpoint(checkpoint)
    return checkpoint


def read_checkpoints_safely(resumed: str | None = None) -> None:
    """Let all of mmengine in this process read through ``read_checkpoint``, for a script.

    Replaces the loaders behind ``load_from``, ``--resume`` and ``Pretrained``, which unpickle.

    Args:
        resumed: The checkpoint that the run resumes from, which is to be read whole.
    """

    # mmengine logs what follows load_from_.
    def load_from_checkpoint(source: str, map_location: Any = None) -> Any:
        return read_checkpoint(source, whole=source == resumed)

    CheckpointLoader.register_scheme(
        list(CheckpointLoader._schemes), load_from_checkpoint, force=True
    )


def _url_of(source: str) -> str | None:
    """URL of a checkpoint; None for a file."""
    scheme, separator, name = source.partition('://')
    if not separator:
        return None
    if scheme in ('http', 'https', 'file'):
        return source
    if scheme in ('torchvision', 'modelzoo'):
        urls = mmengine_checkpoint.get_torchvision_models()
    elif scheme in ('open-mmlab', 'openmmlab'):
        urls = mmengine_checkpoint.get_external_models()
        name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    elif scheme == 'mmcls':
        urls = mmengine_checkpoint.get_mmcls_models()
    else:
        raise RefusedFileError(
            f'{source} is not read: only files, http(s) URLs and the names of torchvision://, '
            'open-mmlab:// and mmcls:// are; copy it to this machine and give the file'
        )
    if name not in urls:
        raise UserError(f'{scheme}:// has no model {name!r}')
    return urls[name]

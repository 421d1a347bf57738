"""From a name, a file or a URL to a flat dict of tensors."""

from __future__ import annotations

import difflib
import hashlib
import os
import os.path as osp
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch
from torch import Tensor

from .augreg import read_augreg
from .safe_load import load_pth

# Where projects keep the weights inside a checkpoint, in the order they are looked for.
_WEIGHT_KEYS = ('state_dict', 'model', 'module', 'model_state_dict', 'teacher', 'network')


class Weights(NamedTuple):
    """Weights as a source has them.

    Attributes:
        tensors: Name -> tensor, on the CPU, in the source's own naming.
        grid: Grid (h, w) of the position embedding in patches, where the source tells it.
        num_heads: Attention heads, where the source tells them; weights do not.
        left: Other entries of the file that hold weights too, for instance ``state_dict_ema``.
    """

    tensors: dict[str, Tensor]
    grid: tuple[int, int] | None = None
    num_heads: int | None = None
    left: tuple[str, ...] = ()


def read_weights(source: str, key: str | None = None) -> Weights:
    """Read weights; nothing in them is ever executed.

    Args:
        source: ``timm://NAME`` (through timm, which downloads and caches), a URL (downloaded once
            into torch's hub folder), or a file: ``.pth`` and the like, ``.safetensors``, or the
            ``.npz`` of AugReg.
        key: Entry of the file that holds the weights, for instance ``state_dict_ema``. Not needed
            for the usual ones.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If timm or safetensors is needed and not there.
        ValueError: If the source cannot be read or holds no weights; the message says what it looks
            like.
    """
    if source.startswith('timm://'):
        return _read_timm(source[len('timm://') :])
    if '://' in source:
        path = download(source)
        try:
            return _read_file(path, key)
        except ValueError as error:
            # Cut short, most likely; the next run downloads it again.
            os.remove(path)
            raise ValueError(f'{error}; the download of {source} is removed') from error
    if not osp.isfile(source):
        raise FileNotFoundError(
            f'checkpoint {source} does not exist; give a file, a URL, or timm://NAME'
        )
    return _read_file(source, key)


def _read_file(path: str, key: str | None) -> Weights:
    kind = _kind_of(path)
    if kind == 'safetensors':
        return Weights(_read_safetensors(path))
    if kind == 'npz':
        return Weights(read_augreg(path))
    return _unwrap(load_pth(path), path, key)


def _kind_of(path: str) -> str:
    """Tell the kind of a file by its first bytes; names lie."""
    with open(path, 'rb') as file:
        head = file.read(64)
    if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < osp.getsize(path):
        return 'safetensors'
    if head[:4] == b'PK\x03\x04' and path.endswith('.npz'):
        return 'npz'
    if head[:4] == b'PK\x03\x04' or head[:1] == b'\x80':
        return 'pth'
    if path.endswith('.safetensors'):
        raise ValueError(f'cannot read {path}: it is truncated or not safetensors; get it again')
    shown = head.split(b'\n')[0][:40]
    looks = 'empty' if not head else f'text or something else, starting with {shown!r}'
    if head.startswith(b'version https://git-lfs'):
        looks = 'a git-lfs pointer: fetch the real file with `git lfs pull`'
    raise ValueError(f'cannot read {path}: it is no checkpoint but {looks}')


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f'{path} needs safetensors: run `pip install safetensors`') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f'cannot read {path}: it is truncated or damaged; get it again ({error})'
        ) from error


def _unwrap(content: Any, path: str, key: str | None) -> Weights:
    """Find the dict of tensors inside a checkpoint."""
    if key is not None:
        if not isinstance(content, Mapping) or not _has_tensors(content.get(key)):
            raise ValueError(f'{path} has no weights at {key!r}; it holds {_listed(content)}')
        return Weights(_tensors(content[key]))
    left: list[str] = []
    while isinstance(content, Mapping) and not _has_tensors(content):
        found = [k for k, v in content.items() if isinstance(v, Mapping) and _holds_weights(v)]
        known = [k for k in _WEIGHT_KEYS if k in found]
        if not known:
            break
        left += [k for k in found if k != known[0]]
        content = content[known[0]]
    if not _has_tensors(content):
        raise ValueError(
            f'{path} holds no weights under a usual name ({", ".join(_WEIGHT_KEYS)}), but '
            f'{_listed(content)}; if one of them is the weights, name it with key='
        )
    return Weights(_tensors(content), left=tuple(left))


def _holds_weights(content: Mapping) -> bool:
    return _has_tensors(content) or any(
        isinstance(content.get(key), Mapping) and _has_tensors(content[key]) for key in _WEIGHT_KEYS
    )


def _has_tensors(content: Any) -> bool:
    return isinstance(content, Mapping) and any(isinstance(v, Tensor) for v in content.values())


def _tensors(content: Mapping) -> dict[str, Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _listed(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f'a {type(content).__name__}'
    return 'the keys ' + (', '.join(map(repr, list(content)[:8])) or '(none)')


def download(url: str) -> str:
    """Fetch a file into torch's hub folder, once per host; half a download leaves nothing."""
    if urlparse(url).scheme not in ('http', 'https', 'file'):
        raise ValueError(f'cannot fetch {url}; give an http(s) URL, a file, or timm://NAME')
    from filelock import FileLock

    folder = osp.join(torch.hub.get_dir(), 'checkpoints')
    # Many checkpoints have the same name; the one of another URL must not be taken for this.
    stem, suffix = osp.splitext(osp.basename(urlparse(url).path))
    path = osp.join(folder, f'{stem}.{hashlib.sha256(url.encode()).hexdigest()[:8]}{suffix}')
    os.makedirs(folder, exist_ok=True)
    # Processes of one host wait for the first.
    with FileLock(path + '.lock'):
        if not osp.isfile(path):
            try:
                torch.hub.download_url_to_file(url, path, progress=True)
            except OSError as error:
                raise ValueError(
                    f'cannot download {url} ({error}); fetch it on another machine and give the '
                    'file instead'
                ) from error
    return path


def _read_timm(name: str) -> Weights:
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'timm://{name} needs timm: run `pip install timm`') from error
    architecture = name.split('.')[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models('*vit*'), n=3, cutoff=0.5)
        near += difflib.get_close_matches(architecture, timm.list_models('deit*'), n=2, cutoff=0.5)
        raise ValueError(f'timm has no model {architecture!r}; near ones: {", ".join(near)}')
    try:
        model = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f'timm cannot get the weights of {name} ({type(error).__name__}: {error}). Without '
            'network give a file of them with --backbone FILE, or start from nothing with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    grid = getattr(getattr(model, 'patch_embed', None), 'grid_size', None)
    blocks = getattr(model, 'blocks', None)
    num_heads = getattr(getattr(blocks[0], 'attn', None), 'num_heads', None) if blocks else None
    return Weights(model.state_dict(), None if grid is None else tuple(grid), num_heads)

"""From a name, a file or a URL to a flat dict of tensors."""

from __future__ import annotations

import hashlib
import json
import os
import os.path as osp
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch
from torch import Tensor

from mmpvg.utils.errors import MissingFileError, UserError

from .augreg import read_augreg
from .safe_load import load_pth

# Where projects keep the weights inside a checkpoint, in the order they are looked for.
_WEIGHT_KEYS = ('state_dict', 'model', 'module', 'model_state_dict', 'teacher', 'network')

# A file of torch that is no zip starts with this pickled number; another pickle holds objects.
_TORCH_MAGIC = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'

# Weights in a folder as Hugging Face's libraries save them, in the order they are looked for.
_FOLDER_FILES = (
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
    'adapter_model.safetensors',
)


class Pixels(NamedTuple):
    """How a source normalizes its images: mean and std by channel, of pixels from 0 to 255."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        """As a data_preprocessor takes them."""
        mean, std = ([round(value, 3) for value in values] for values in self)
        return f'mean={mean}, std={std}'


class Weights(NamedTuple):
    """Weights as a source has them.

    Attributes:
        tensors: Name -> tensor, on the CPU, in the source's own naming.
        grid: Grid (h, w) of the position embedding in patches, if the source gives it.
        num_heads: Attention heads, if the source gives them; weights do not.
        left: Other entries of the file that hold weights too, for instance ``state_dict_ema``.
        pixels: How its images were normalized, if the source gives it.
        notes: What the user should know about the source.
    """

    tensors: dict[str, Tensor]
    grid: tuple[int, int] | None = None
    num_heads: int | None = None
    left: tuple[str, ...] = ()
    pixels: Pixels | None = None
    notes: tuple[str, ...] = ()


def read_weights(source: str, key: str | None = None) -> Weights:
    """Read weights without running what a file holds.

    Args:
        source: ``timm://NAME`` (through timm, which downloads and caches; also
            ``timm://hf-hub:OWNER/NAME`` and ``timm://local-dir:FOLDER``), a URL (downloaded once
            into torch's hub folder), a file (``.pth`` and the like, ``.safetensors``, the ``.npz``
            of AugReg, or the ``.index.json`` of a sharded one), or a folder that holds one.
        key: Entry of the file that holds the weights, for instance ``state_dict_ema``; found by
            itself for the usual ones.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If timm or safetensors is needed and not there.
        ValueError: If the source cannot be read or holds no weights; the message says what it looks
            like.
    """
    if source.startswith('timm://'):
        from .timm_models import read_timm

        return read_timm(source[len('timm://') :])
    if '://' in source:
        path = download(source)
        try:
            return _read_file(path, key)
        except ValueError as error:
            # Cut short, most likely; the next run downloads it again.
            os.remove(path)
            raise type(error)(f'{error}; the download of {source} is removed') from error
    if osp.isdir(source):
        return _read_folder(source, key)
    if not osp.isfile(source):
        raise MissingFileError(
            f'checkpoint {source} does not exist; give a file, a folder, a URL, or timm://NAME'
        )
    return _read_file(source, key)


def _read_file(path: str, key: str | None) -> Weights:
    if path.endswith('.index.json'):
        return _read_shards(path)
    with open(path, 'rb') as file:
        head = file.read(64)
    # The first bytes decide, not the name.
    if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < osp.getsize(path):
        return Weights(_read_safetensors(path))
    zipped = head[:4] == b'PK\x03\x04'
    if zipped and path.endswith('.npz'):
        tensors, num_heads = read_augreg(path)
        half = (127.5,) * 3
        return Weights(tensors, num_heads=num_heads, pixels=Pixels(half, half))
    if zipped or (head[:1] == b'\x80' and _TORCH_MAGIC in head):
        return _unwrap(load_pth(path), path, key)
    raise UserError(f'cannot read {path}: {_why_not(path, head)}')


def _read_folder(folder: str, key: str | None) -> Weights:
    """Read a folder of timm's through timm, which then knows the network, any other by its file."""
    config = osp.join(folder, 'config.json')
    if osp.isfile(config) and 'architecture' in _read_json(config):
        return read_weights(f'timm://local-dir:{folder}')
    for name in _FOLDER_FILES:
        if osp.isfile(osp.join(folder, name)):
            return _read_file(osp.join(folder, name), key)
    raise UserError(
        f'{folder} is a folder without {", ".join(_FOLDER_FILES[:4])}; give the file of weights'
    )


def _read_shards(path: str) -> Weights:
    """Join the files that an index names; all lie beside it."""
    shards = _read_json(path).get('weight_map')
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f'{path} is no index of shards: it has no weight_map of file names')
    tensors = {}
    for name in sorted(set(shards.values())):
        shard = osp.join(osp.dirname(path), name)
        # An index of indices might name itself.
        if osp.basename(name) != name or name.endswith('.json') or not osp.isfile(shard):
            raise UserError(
                f'{path} names {name!r}, which is no file of weights beside it; get it too'
            )
        tensors.update(_read_file(shard, None).tensors)
    if missing := [name for name in shards if name not in tensors]:
        raise UserError(f'the shards of {path} lack {", ".join(missing[:3])}; get them again')
    return Weights(tensors)


def _read_json(path: str) -> dict:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise UserError(f'cannot read {path}: it is no JSON ({str(error)[:80]})') from None
    if not isinstance(content, dict):
        raise UserError(f'cannot read {path}: it holds a {type(content).__name__}, no dict')
    return content


def _why_not(path: str, head: bytes) -> str:
    """What a file is that is no checkpoint."""
    if head[:1] == b'\x80':
        code = (
            'import pickle, torch, safetensors.torch as s; '
            f'c = pickle.load(open({json.dumps(path)}, "rb"), encoding="latin1"); '
            's.save_file({k: torch.as_tensor(v) for k, v in c.get("model", c).items()}, '
            f'{json.dumps(osp.splitext(path)[0] + ".safetensors")})'
        )
        return (
            "it is a pickle of objects, which may run anything, as those of detectron2's model "
            f'zoo. If you trust it, turn it into safetensors once: python -c {shlex.quote(code)}'
        )
    if path.endswith('.safetensors'):
        return 'it is truncated or not safetensors; get it again'
    if head.startswith(b'version https://git-lfs'):
        return 'it is no checkpoint but a git-lfs pointer: fetch the real file with `git lfs pull`'
    if not head:
        return 'it is no checkpoint but empty'
    shown = head.split(b'\n')[0][:40]
    return f'it is no checkpoint but text or something else, starting with {shown!r}'


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f'{path} needs safetensors: run `pip install safetensors`') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(
            f'cannot read {path}: it is truncated or damaged; get it again ({error})'
        ) from error


def _unwrap(content: Any, path: str, key: str | None) -> Weights:
    """Find the dict of tensors inside a checkpoint."""
    if key is not None:
        if not isinstance(content, Mapping) or not _has_tensors(content.get(key)):
            raise UserError(f'{path} has no weights at {key!r}; it holds {_listed(content)}')
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
        raise UserError(
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
        raise UserError(f'cannot fetch {url}; give an http(s) URL, a file, or timm://NAME')
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
                raise UserError(
                    f'cannot download {url} ({error}); fetch it on another machine and give the '
                    'file instead'
                ) from error
    return path

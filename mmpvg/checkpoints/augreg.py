"""The ``.npz`` files of AugReg ("How to train your ViT?", TMLR 2022), in timm's naming."""

from __future__ import annotations

import re
import zipfile

import numpy as np
import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

_ATTENTION = r'MultiHeadDotProductAttention_1'
_BLOCK = r'Transformer/encoderblock_(\d+)/'

# One row per kind of array: its name, the name in timm's ViT, and how flax lays it out.
_ARRAYS = (
    (r'cls', 'cls_token', 'same'),
    (r'Transformer/posembed_input/pos_embedding', 'pos_embed', 'same'),
    (r'embedding/kernel', 'patch_embed.proj.weight', 'conv'),
    (r'embedding/bias', 'patch_embed.proj.bias', 'same'),
    (_BLOCK + r'LayerNorm_0/scale', r'blocks.\1.norm1.weight', 'same'),
    (_BLOCK + r'LayerNorm_0/bias', r'blocks.\1.norm1.bias', 'same'),
    (_BLOCK + _ATTENTION + r'/out/kernel', r'blocks.\1.attn.proj.weight', 'from heads'),
    (_BLOCK + _ATTENTION + r'/out/bias', r'blocks.\1.attn.proj.bias', 'same'),
    (_BLOCK + r'LayerNorm_2/scale', r'blocks.\1.norm2.weight', 'same'),
    (_BLOCK + r'LayerNorm_2/bias', r'blocks.\1.norm2.bias', 'same'),
    (_BLOCK + r'MlpBlock_3/Dense_0/kernel', r'blocks.\1.mlp.fc1.weight', 'dense'),
    (_BLOCK + r'MlpBlock_3/Dense_0/bias', r'blocks.\1.mlp.fc1.bias', 'same'),
    (_BLOCK + r'MlpBlock_3/Dense_1/kernel', r'blocks.\1.mlp.fc2.weight', 'dense'),
    (_BLOCK + r'MlpBlock_3/Dense_1/bias', r'blocks.\1.mlp.fc2.bias', 'same'),
    (r'Transformer/encoder_norm/scale', 'norm.weight', 'same'),
    (r'Transformer/encoder_norm/bias', 'norm.bias', 'same'),
    (r'head/kernel', 'head.weight', 'dense'),
    (r'head/bias', 'head.bias', 'same'),
    (r'pre_logits/kernel', 'pre_logits.fc.weight', 'dense'),
    (r'pre_logits/bias', 'pre_logits.fc.bias', 'same'),
)  # fmt: skip

_LAYOUTS = {
    'same': lambda array: array,
    'dense': lambda array: array.T,  # (in, out)
    'conv': lambda array: array.transpose(3, 2, 0, 1),  # (height, width, in, out)
    'to heads, kernel': lambda array: array.reshape(array.shape[0], -1).T,  # (in, heads, d)
    'to heads, bias': lambda array: array.reshape(-1),  # (heads, d)
    'from heads': lambda array: array.reshape(-1, array.shape[-1]).T,  # (heads, d, out)
}


def read_augreg(path: str) -> tuple[dict[str, Tensor], int | None]:
    """Read an AugReg file.

    Returns:
        Name -> tensor, in the naming of timm's ViT, in which arrays that are in no row of the table
        keep their name; and the number of attention heads, which is an axis of its arrays.

    Raises:
        ValueError: If the file is truncated, holds objects, or lacks a query, key or value.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _in_timms_naming(arrays, path)
    except UserError:
        raise
    # ValueError and IndexError of text and of arrays of other axes.
    except (ValueError, IndexError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f'cannot read {path}: it is truncated or no AugReg file ({error})'
        ) from error


def _in_timms_naming(
    arrays: dict[str, np.ndarray], path: str
) -> tuple[dict[str, Tensor], int | None]:
    # Optimizer checkpoints keep the weights one level down.
    prefix = 'opt/target/' if any(name.startswith('opt/target/') for name in arrays) else ''
    arrays = {n[len(prefix) :]: a for n, a in arrays.items() if n.startswith(prefix)}
    query = arrays.get(f'Transformer/encoderblock_0/{_ATTENTION}/query/kernel')
    num_heads = None if query is None else query.shape[1]  # (in, heads, d)
    state = _fuse_qkv(arrays, path)
    for name, array in arrays.items():
        for pattern, renamed, layout in _ARRAYS:
            if match := re.fullmatch(pattern, name):
                state[match.expand(renamed)] = _LAYOUTS[layout](array)
                break
        else:
            state.setdefault(name, array)
    tensors = {n: torch.from_numpy(np.ascontiguousarray(a, np.float32)) for n, a in state.items()}
    return tensors, num_heads


def _fuse_qkv(arrays: dict[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """Take query, key and value out of the arrays and join them, block by block."""
    fused = {}
    for block in {match[1] for name in arrays if (match := re.match(_BLOCK + _ATTENTION, name))}:
        attention = f'Transformer/encoderblock_{block}/{_ATTENTION}'
        for part, renamed in (('kernel', 'weight'), ('bias', 'bias')):
            names = [f'{attention}/{which}/{part}' for which in ('query', 'key', 'value')]
            if missing := [name for name in names if name not in arrays]:
                raise UserError(f'{path} lacks {missing[0]}; it is not a whole AugReg file')
            joined = [_LAYOUTS[f'to heads, {part}'](arrays.pop(name)) for name in names]
            fused[f'blocks.{block}.attn.qkv.{renamed}'] = np.concatenate(joined)
    return fused

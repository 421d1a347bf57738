"""The backbone that a checkpoint was made for."""

from __future__ import annotations

import re
from typing import Any

from mmpvg.utils.errors import UserError

from ..models.backbones import VIT_ARCHS
from .resize import Grid, split_rows
from .sinusoids import find_sinusoid
from .source import SourceViT


def backbone_arguments(
    source: SourceViT, grid: Grid | None = None, num_heads: int | None = None
) -> dict[str, Any]:
    """Tell the arguments of the MPVGViT that keeps everything a source has.

    Args:
        source: The ViT.
        grid: Grid (h, w) of its position embedding, where that is not square.
        num_heads: Its attention heads, which weights do not tell. By default those of the named
            arch of its size, else one for every 64 channels.

    Returns:
        Arguments of ``MPVGViT``.

    Raises:
        ValueError: If the source lacks blocks, its PE fits no grid, or its width cannot be split
            into heads.
    """
    tensors = source.tensors
    if not source.depth:
        raise UserError(f'{source.label} holds no transformer block')
    patch_size = tensors['patch_embed.proj.weight'].shape[3]
    arguments = dict(arch=_arch(source, num_heads or source.num_heads), patch_size=patch_size)
    table, pe_type = tensors.get('position_embedding.table'), 'learnable'
    if 'pos_embed' in tensors:
        extra = [name for name in ('cls_token', 'dist_token') if name in tensors]
        registers = tensors.get('register_tokens')
        extra += ['register_tokens'] * (0 if registers is None else registers.shape[1])
        rows = tensors['pos_embed']
        if rows.ndim == 4:
            table = rows
        else:
            found, table = split_rows(rows, tuple(extra), grid or source.grid, None, source.label)
            cls_row = found['cls_token'] if 'cls_token' in tensors else None
            cls_row = cls_row if cls_row is not None and cls_row.shape[1] else None
            pe_type = find_sinusoid(table, cls_row) or pe_type
    relative = any('.attn.rel_pos.mlp.' in name for name in tensors)
    if table is None and not relative:
        raise UserError(f'{source.label} has no learned position embedding, whose size would tell')
    if table is not None:
        height, width = (side * patch_size for side in table.shape[1:3])
        arguments['img_size'] = height if height == width else (height, width)
    if relative:
        arguments['relative_position'] = 'mlp'
    arguments['in_channels'] = tensors['patch_embed.proj.weight'].shape[1]
    arguments['pe_delivery'] = _delivery(source) if table is not None else 'none'
    if table is None:
        arguments['pe_type'] = None
    elif pe_type != 'learnable':
        arguments['pe_type'] = pe_type
    if 'blocks.0.attn.qkv.bias' not in tensors:
        arguments['qkv_bias'] = False
    arguments.update(_gaussian(source))
    arguments.update(_decomposed(source))
    arguments['with_cls_token'] = 'cls_token' in tensors
    arguments['num_registers'] = sum(
        tensors[name].shape[1] for name in ('dist_token', 'register_tokens') if name in tensors
    )
    if 'blocks.0.ls1.gamma' in tensors:
        arguments['layer_scale_init_value'] = 1.0
    if 'norm.weight' not in tensors:
        arguments['final_norm'] = False
    return arguments


def _arch(source: SourceViT, num_heads: int | None) -> str | dict:
    hidden = source.tensors['blocks.0.mlp.fc1.weight'].shape[0]
    size = (source.dims, source.depth, hidden / source.dims)
    for name, arch in VIT_ARCHS.items():
        if (arch.embed_dims, arch.num_layers, arch.mlp_ratio) == size:
            if num_heads in (None, arch.num_heads):
                return name
    if num_heads is None and source.dims % 64:
        raise UserError(
            f'{source.label} is {source.dims} wide, which tells no number of heads; pass it as '
            'num_heads'
        )
    return dict(
        embed_dims=source.dims,
        num_layers=source.depth,
        num_heads=num_heads or source.dims // 64,
        mlp_ratio=hidden / source.dims,
    )


def _gaussian(source: SourceViT) -> dict[str, str]:
    """The Gaussian attention bias, if it has one."""
    amplitudes = [
        source.tensors.get(f'blocks.{block}.attn.bias.a') for block in range(source.depth)
    ]
    if all(a is None for a in amplitudes):
        return {}
    if any(a is None for a in amplitudes):
        raise UserError(
            f'{source.label} has a Gaussian bias in some blocks alone, which its windows would '
            'tell, but weights do not; load it with PretrainedViT into a backbone with the '
            "window_size and gaussian_bias=dict(per=..., blocks='window') that it was trained with"
        )
    return {'gaussian_bias': 'block' if amplitudes[0].shape[0] == 1 else 'head'}


def _decomposed(source: SourceViT) -> dict[str, Any]:
    """ViTDet's relative position, whose tables tell windows and the native grid."""
    sides = {}
    for block in range(source.depth):
        rows, columns = (
            source.tensors.get(f'blocks.{block}.attn.rel_pos.{axis}')
            for axis in ('rows', 'columns')
        )
        if rows is not None and columns is not None:
            sides[block] = tuple((len(table) + 1) // 2 for table in (rows, columns))
    if not sides:
        return {}
    window, grid = min(sides.values()), max(sides.values())
    found: dict[str, Any] = {'relative_position': dict(type='decomposed', grid=grid)}
    if window != grid:
        found['window_size'] = window[0]
        found['global_blocks'] = [block for block, side in sides.items() if side == grid]
    return found


def _delivery(source: SourceViT) -> str:
    """The delivery whose PE norms these are."""
    names = ' '.join(source.tensors)
    blocks = {int(block) for block in re.findall(r'pe_delivery\.block_norms\.(\d+)\.', names)}
    if not blocks:
        return 'default'
    if 0 in blocks:
        return 'lape'
    return 'mpvg' if 'pe_delivery.last_norm' in names else 'pvg'

"""The backbone that a checkpoint was made for."""

from __future__ import annotations

import re
from typing import Any

from mmpvg.utils.errors import UserError

from ..models.backbones import VIT_ARCHS
from .resize import Grid, find_sinusoid
from .source import SourceViT


def backbone_arguments(
    source: SourceViT, grid: Grid | None = None, num_heads: int | None = None
) -> dict[str, Any]:
    """Arguments of the ``MPVGViT`` that keeps everything a source has.

    Args:
        source: The ViT.
        grid: Grid (h, w) of its position embedding, if that is not square.
        num_heads: Its attention heads, if the source does not say. By default those of the named
            arch of its size, else one for every 64 channels.

    Raises:
        ValueError: If the source lacks blocks, its PE fits no grid, or its width cannot be split
            into heads.
    """
    tensors = source.tensors
    if not source.depth:
        raise UserError(f'{source.label} holds no transformer block')
    _, in_channels, _, patch_size = tensors['patch_embed.proj.weight'].shape
    arguments: dict[str, Any] = dict(
        arch=_arch(source, num_heads or source.num_heads), patch_size=patch_size
    )
    table, pe_type = tensors.get('position_embedding.table'), 'learnable'
    if 'pos_embed' in tensors:
        rows, table = source.split_pe(grid)
        cls_row = rows.get('cls_token') if 'cls_token' in tensors else None
        pe_type = find_sinusoid(table, cls_row) or pe_type
    relative = any('.attn.rel_pos.mlp.' in name for name in tensors)
    if table is None and not relative:
        raise UserError(
            f'{source.label} has no learned position embedding, whose size would give img_size'
        )
    if table is not None:
        height, width = (side * patch_size for side in table.shape[1:3])
        arguments['img_size'] = height if height == width else (height, width)
    if relative:
        arguments['relative_position'] = 'mlp'
    arguments['in_channels'] = in_channels
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
    dims, depth = source.dims, source.depth
    mlp_ratio = source.tensors['blocks.0.mlp.fc1.weight'].shape[0] / dims
    for name, arch in VIT_ARCHS.items():
        if (arch.embed_dims, arch.num_layers, arch.mlp_ratio) == (dims, depth, mlp_ratio):
            if num_heads in (None, arch.num_heads):
                return name
    if num_heads is None and dims % 64:
        raise UserError(
            f'{source.label} is {dims} wide, which is no multiple of 64; pass its number of '
            'attention heads as num_heads'
        )
    num_heads = num_heads or dims // 64
    return dict(embed_dims=dims, num_layers=depth, num_heads=num_heads, mlp_ratio=mlp_ratio)


def _gaussian(source: SourceViT) -> dict[str, str]:
    """The Gaussian attention bias, if it has one."""
    names = [f'blocks.{block}.attn.bias.a' for block in range(source.depth)]
    amplitudes = [source.tensors[name] for name in names if name in source.tensors]
    if not amplitudes:
        return {}
    if len(amplitudes) < len(names):
        raise UserError(
            f'{source.label} has a Gaussian bias in some blocks alone, those with windows, whose '
            'size weights do not have; load it with PretrainedViT into a backbone with the '
            "window_size and gaussian_bias=dict(per=..., blocks='window') that it was trained with"
        )
    return {'gaussian_bias': 'block' if amplitudes[0].shape[0] == 1 else 'head'}


def _decomposed(source: SourceViT) -> dict[str, Any]:
    """ViTDet's relative position, whose tables have the sizes of windows and the native grid."""
    sides = {}
    for block in range(source.depth):
        names = [f'blocks.{block}.attn.rel_pos.{axis}' for axis in ('rows', 'columns')]
        if all(name in source.tensors for name in names):
            sides[block] = tuple((len(source.tensors[name]) + 1) // 2 for name in names)
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

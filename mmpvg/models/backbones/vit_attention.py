"""Which blocks of a ViT attend where, and with what in their logits."""

from __future__ import annotations

from collections.abc import Sequence

from mmpvg.utils.errors import UserError

from ..layers import (
    RELATIVE_POSITIONS,
    Attention,
    DecomposedRelativePosition,
    GaussianAttentionBias,
    RelativePositionMlp,
    has_flex_attention,
)
from .vit_arch import ViTArch


def build_attentions(
    arch: ViTArch,
    windows: Sequence[int],
    relative_grid: int | Sequence[int],
    *,
    gaussian_bias: str | None = None,
    gaussian_blocks: str = 'all',
    gaussian_kernel: str = 'mask',
    relative_position: str | None = None,
    qkv_bias: bool = True,
    fused: bool = True,
) -> list[Attention]:
    """Build the attention of every block.

    Args:
        arch: Size of the network.
        windows: Window size of every block that is built, 0 for global attention.
        relative_grid: Native grid of the decomposed relative position in global blocks.
        gaussian_bias: See ``MPVGViT``, as for all that follow.
        gaussian_blocks: Which blocks have the Gaussian.
        gaussian_kernel: How it is added.
        relative_position: Kind of relative position.
        qkv_bias: Whether queries, keys and values have a bias.
        fused: Whether attention runs torch's fused kernel.

    Raises:
        ValueError: If an argument is unknown or does not fit the others.
    """
    _check_gaussian(gaussian_bias, gaussian_blocks, windows)
    _check_kernel(gaussian_kernel, gaussian_bias, relative_position)
    if relative_position not in (None, *RELATIVE_POSITIONS):
        raise UserError(
            f'unknown relative_position {relative_position!r}; choose one of '
            f'{", ".join(RELATIVE_POSITIONS)}, or None'
        )
    heads, head_dims = arch.num_heads, arch.embed_dims // arch.num_heads
    native = (relative_grid,) * 2 if isinstance(relative_grid, int) else tuple(relative_grid)
    if len(native) != 2 or min(native) < 1:
        raise UserError(f'relative_grid must be a side or (h, w) in patches, got {relative_grid}')

    def rel_pos(window: int) -> RelativePositionMlp | DecomposedRelativePosition | None:
        if relative_position == 'mlp':
            return RelativePositionMlp(heads)
        if relative_position == 'decomposed':
            grid = (window, window) if window else native
            return DecomposedRelativePosition(grid, head_dims, resize=not window)
        return None

    def gaussian(window: int) -> GaussianAttentionBias | None:
        if gaussian_bias is None or (gaussian_blocks == 'window' and not window):
            return None
        return GaussianAttentionBias(heads if gaussian_bias == 'head' else 1)

    attentions = []
    for window in windows:
        bias = gaussian(window)
        flex = gaussian_kernel == 'flex' and bias is not None
        attentions.append(
            Attention(arch.embed_dims, heads, window, fused, bias, rel_pos(window), qkv_bias, flex)
        )
    return attentions


def block_indices(indices: int | Sequence[int], depth: int, what: str) -> list[int]:
    """Normalize block indices: non-negative, ascending, each once.

    Raises:
        ValueError: If they name no block, one that is not there, or are not ascending.
    """
    given = [indices] if isinstance(indices, int) else list(indices)
    outside = [index for index in given if not -depth <= index < depth]
    if outside or not given:
        raise UserError(
            f'{what}={given} must name blocks of this network; it has {depth}, '
            f'so use {-depth} to {depth - 1}'
        )
    blocks = [index % depth for index in given]
    if blocks != sorted(set(blocks)):
        raise UserError(f'{what}={given} must be ascending and name each block once')
    return blocks


def window_sizes(window_size: int, global_blocks: Sequence[int] | None, depth: int) -> list[int]:
    """Window size of every block, 0 for global attention.

    Raises:
        ValueError: If global blocks are named that are not there, or without windows.
    """
    if not window_size:
        if global_blocks is not None:
            raise UserError(
                f'global_blocks={list(global_blocks)} has no effect with window_size=0, where '
                'every block is global; set window_size, or leave global_blocks out'
            )
        return [0] * depth
    if global_blocks is None:
        global_blocks = sorted({max(quarter * depth // 4 - 1, 0) for quarter in (1, 2, 3, 4)})
    elif len(global_blocks):
        global_blocks = block_indices(global_blocks, depth, 'global_blocks')
    return [0 if block in global_blocks else window_size for block in range(depth)]


def _check_gaussian(kind: str | None, blocks: str, windows: Sequence[int]) -> None:
    if kind not in (None, 'block', 'head'):
        raise UserError(f"gaussian_bias must be 'block', 'head' or None, got {kind!r}")
    if blocks not in ('all', 'window'):
        raise UserError(f"gaussian_blocks must be 'all' or 'window', got {blocks!r}")
    if kind and blocks == 'window' and not any(windows):
        raise UserError(
            "gaussian_blocks='window' gives no block a bias, as every block is global; set "
            "window_size, or gaussian_blocks='all'"
        )


def _check_kernel(kernel: str, gaussian_bias: str | None, relative_position: str | None) -> None:
    if kernel not in ('mask', 'flex'):
        raise UserError(f"gaussian_kernel must be 'mask' or 'flex', got {kernel!r}")
    if kernel == 'mask':
        return
    if gaussian_bias is None or relative_position is not None:
        raise UserError(
            "gaussian_kernel='flex' computes the Gaussian bias alone: set gaussian_bias, and "
            f"relative_position=None (got {relative_position!r}), or gaussian_kernel='mask'"
        )
    if not has_flex_attention():
        raise UserError(
            "gaussian_kernel='flex' needs torch 2.6 or later; set gaussian_kernel='mask'"
        )

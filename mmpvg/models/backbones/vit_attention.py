"""Which blocks of a ViT attend globally or in windows, and what is added to their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from mmpvg.utils.errors import UserError, check_choice

from ..layers import (
    RELATIVE_POSITIONS,
    Attention,
    DecomposedRelativePosition,
    GaussianAttentionBias,
    RelativePositionMlp,
    has_flex_attention,
)
from ..layers.windows import Grid
from .vit_arch import ViTArch

T = TypeVar('T')


@dataclass(frozen=True)
class GaussianOptions:
    """Options of the Gaussian attention bias; see ``PlainViT``."""

    per: str
    blocks: str = 'all'
    kernel: str = 'mask'

    def __post_init__(self) -> None:
        check_choice('per of gaussian_bias', self.per, ('head', 'block'))
        check_choice('blocks of gaussian_bias', self.blocks, ('all', 'window'))
        check_choice('kernel of gaussian_bias', self.kernel, ('mask', 'flex'))


@dataclass(frozen=True)
class RelativeOptions:
    """Options of the relative position; see ``PlainViT``."""

    type: str
    grid: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_choice('type of relative_position', self.type, RELATIVE_POSITIONS)
        if self.grid is None:
            return
        if self.type != 'decomposed':
            raise UserError(
                f'relative_position has grid={self.grid}, which type={self.type!r} does not use: '
                "it has no tables; leave grid out, or set type='decomposed'"
            )
        sides = (self.grid,) * 2 if isinstance(self.grid, int) else tuple(self.grid)
        if len(sides) != 2 or min(sides) < 1:
            raise UserError(
                f'grid of relative_position must be a side or (h, w) in patches, got {self.grid}'
            )

    def native_grid(self, default: Grid) -> Grid:
        """Native (h, w) of the tables of global blocks."""
        if self.grid is None:
            return default
        return (self.grid,) * 2 if isinstance(self.grid, int) else (self.grid[0], self.grid[1])


def build_attentions(
    arch: ViTArch,
    windows: Sequence[int],
    native_grid: Grid,
    *,
    gaussian_bias: str | Mapping | None = None,
    relative_position: str | Mapping | None = None,
    qkv_bias: bool = True,
    drop_rate: float = 0.0,
) -> list[Attention]:
    """Build the attention of every block.

    Args:
        arch: Size of the network.
        windows: Window size of every block that is built, 0 for global attention.
        native_grid: Grid (h, w) of the native image size, in patches.
        gaussian_bias: See ``PlainViT``.
        relative_position: See ``PlainViT``.
        qkv_bias: Whether queries, keys and values have a bias.
        drop_rate: Rate of the dropout of attention weights.

    Raises:
        ValueError: If an argument is unknown or does not fit the others.
    """
    gaussian = _parse(GaussianOptions, gaussian_bias, 'gaussian_bias')
    relative = _parse(RelativeOptions, relative_position, 'relative_position')
    if gaussian is not None:
        _check_gaussian(gaussian, relative, windows, drop_rate)
    heads, head_dims = arch.num_heads, arch.embed_dims // arch.num_heads

    def rel_pos(window: int) -> RelativePositionMlp | DecomposedRelativePosition | None:
        if relative is None:
            return None
        if relative.type == 'mlp':
            return RelativePositionMlp(heads)
        grid = (window, window) if window else relative.native_grid(native_grid)
        return DecomposedRelativePosition(grid, head_dims, resize=not window)

    def bias(window: int) -> GaussianAttentionBias | None:
        if gaussian is None or (gaussian.blocks == 'window' and not window):
            return None
        return GaussianAttentionBias(heads if gaussian.per == 'head' else 1)

    return [
        Attention(
            arch.embed_dims,
            heads,
            window,
            bias=bias(window),
            rel_pos=rel_pos(window),
            qkv_bias=qkv_bias,
            drop_rate=drop_rate,
            flex=gaussian is not None and gaussian.kernel == 'flex',
        )
        for window in windows
    ]


def block_indices(indices: int | Sequence[int], depth: int, argument: str) -> list[int]:
    """Normalize block indices: non-negative, ascending, each once.

    Raises:
        ValueError: If there is none, one is out of range, or they are not ascending.
    """
    given = [indices] if isinstance(indices, int) else list(indices)
    outside = [index for index in given if not -depth <= index < depth]
    if outside or not given:
        raise UserError(
            f'{argument}={given} must name blocks of this network; it has {depth}, '
            f'so use {-depth} to {depth - 1}'
        )
    blocks = [index % depth for index in given]
    if blocks != sorted(set(blocks)):
        raise UserError(f'{argument}={given} must be ascending and name each block once')
    return blocks


def window_sizes(window_size: int, global_blocks: Sequence[int] | None, depth: int) -> list[int]:
    """Window size of every block, 0 for global attention.

    Raises:
        ValueError: If ``global_blocks`` is out of range, or given without windows.
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


def _parse(options: type[T], given: str | Mapping | None, argument: str) -> T | None:
    """Read options from a config: a mapping, the value of the first one alone, or None."""
    if given is None:
        return None
    first, *others = (field.name for field in fields(options))  # type: ignore[arg-type]
    values: dict[str, Any] = dict(given) if isinstance(given, Mapping) else {first: given}
    if first not in values or set(values) - {first, *others}:
        raise UserError(
            f'{argument}={given} must be None, a value of {first}, or a dict with {first} and, if '
            f'need be, {", ".join(others)}'
        )
    return options(**values)


def _check_gaussian(
    gaussian: GaussianOptions,
    relative: RelativeOptions | None,
    windows: Sequence[int],
    drop_rate: float,
) -> None:
    if gaussian.blocks == 'window' and not any(windows):
        raise UserError(
            "gaussian_bias with blocks='window' gives no block a bias, as every block is global; "
            "set window_size, or blocks='all'"
        )
    if gaussian.kernel == 'mask':
        return
    if gaussian.blocks == 'window' or all(windows):
        raise UserError(
            "gaussian_bias with kernel='flex' is for global attention, and no global block has the "
            "Gaussian; set kernel='mask'"
        )
    if relative is not None:
        raise UserError(
            "gaussian_bias with kernel='flex' computes the Gaussian alone: set "
            f"relative_position=None (got {relative.type!r}), or kernel='mask'"
        )
    if drop_rate:
        raise UserError(
            "gaussian_bias with kernel='flex' has no dropout of attention weights: set "
            f"attn_drop_rate=0 (got {drop_rate}), or kernel='mask'"
        )
    if not has_flex_attention():
        raise UserError(
            "gaussian_bias with kernel='flex' needs torch 2.6 or later; set kernel='mask'"
        )

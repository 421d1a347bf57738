"""Position embedding (PE) table, its resize, and sinusoids."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpvg.utils.errors import UserError, check_choice

from .precision import upcast
from .windows import Grid

PE_TYPES = ('learnable', 'sinusoid_1d', 'sinusoid_2d')
# Those of torch.nn.functional.interpolate for images.
INTERPOLATE_MODES = ('bicubic', 'bilinear', 'nearest', 'nearest-exact', 'area')


def resize_position_embedding(table: Tensor, grid: Grid, mode: str = 'bicubic') -> Tensor:
    """Resize a PE table to another grid.

    ``align_corners=False``, no antialiasing, half types computed in float32. At its own grid the
    table itself is returned.

    Args:
        table: PE of shape (1, H, W, D). The grid is part of the shape, so that grids with the same
            number of tokens cannot be confused.
        grid: New grid (h, w) in patches.
        mode: One of ``INTERPOLATE_MODES``.

    Returns:
        PE of shape (1, h, w, D), in the type of the table.

    Raises:
        ValueError: If the table is not 4-D or the grid has a side below 1.
    """
    if table.ndim != 4:
        raise UserError(
            f'a PE table must have shape (1, H, W, D), got {tuple(table.shape)}; '
            'reshape a flat (1, N, D) table with its true grid first'
        )
    if min(grid) < 1:
        raise UserError(f'a PE cannot be resized to grid {tuple(grid)}: both sides must be >= 1')
    if table.shape[1:3] == tuple(grid):
        return table
    align_corners = False if mode in ('bilinear', 'bicubic') else None
    resized = F.interpolate(
        upcast(table).permute(0, 3, 1, 2), size=tuple(grid), mode=mode, align_corners=align_corners
    )
    return resized.permute(0, 2, 3, 1).to(table.dtype)


def sinusoid_1d(num_positions: int, dims: int) -> Tensor:
    """1-D sinusoid of "Attention Is All You Need": sine in even channels, cosine in odd ones.

    Args:
        num_positions: Number of positions N.
        dims: Channels D, even.

    Returns:
        Table of shape (N, D).
    """
    _require_multiple(dims, 2, 'sinusoid_1d')
    position = torch.arange(num_positions, dtype=torch.float64)[:, None]
    frequency = 10000.0 ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    angle = position * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1).float()


def sinusoid_2d(grid: Grid, dims: int) -> Tensor:
    """2-D sinusoid of LaPE: half of the channels for the width, half for the height, base 1e4.

    In each half, sines are in even channels and cosines in odd ones, as in LaPE's code. In the
    sinusoids of MAE and MoCo v3 the sines of an axis come before its cosines.

    Args:
        grid: (h, w), in patches.
        dims: Channels D, a multiple of 4.

    Returns:
        Table of shape (h, w, D).
    """
    _require_multiple(dims, 4, 'sinusoid_2d')
    h, w = grid
    frequency = 10000.0 ** (-torch.arange(dims // 4, dtype=torch.float64) / (dims // 4))
    x = (torch.arange(w, dtype=torch.float64)[:, None] * frequency).expand(h, w, -1)
    y = (torch.arange(h, dtype=torch.float64)[:, None, None] * frequency).expand(h, w, -1)
    halves = [torch.stack((angle.sin(), angle.cos()), dim=3).flatten(2) for angle in (x, y)]
    return torch.cat(halves, dim=2).float()


class PositionEmbedding(nn.Module):
    """Position embedding of a network: a table that is resized to the grid of the image.

    The table has shape (1, h, w, D), in checkpoints too; one of another grid is resized while
    loading. A sinusoid is computed at the native grid and resized like a learnable table ([open] in
    the papers).

    Args:
        grid: Native (h, w), in patches.
        dims: Channels D.
        pe_type: ``learnable``, ``sinusoid_1d`` or ``sinusoid_2d``. Sinusoids are fixed.
        cls_token: Whether the class token has a PE: a learnable one with a learnable table,
            position 0 of a 1-D sinusoid, zero with a 2-D one (LaPE, ICCV 2023).
        interpolate_mode: Mode of ``resize_position_embedding``.
        std: Standard deviation of the truncated normal that a learnable table starts from.

    Raises:
        ValueError: If ``pe_type`` or ``interpolate_mode`` is unknown, or ``dims`` does not suit the
            sinusoid.
    """

    def __init__(
        self,
        grid: Grid,
        dims: int,
        pe_type: str = 'learnable',
        *,
        cls_token: bool = False,
        interpolate_mode: str = 'bicubic',
        std: float = 0.02,
    ) -> None:
        super().__init__()
        check_choice('pe_type', pe_type, PE_TYPES)
        check_choice('interpolate_mode', interpolate_mode, INTERPOLATE_MODES)
        self.interpolate_mode = interpolate_mode
        self.std = std
        h, w = grid
        if pe_type == 'learnable':
            self.table = nn.Parameter(torch.empty(1, h, w, dims))
            self.cls_row = nn.Parameter(torch.empty(1, 1, dims)) if cls_token else None
            self.reset_parameters()
            return
        if pe_type == 'sinusoid_1d':
            rows = sinusoid_1d(h * w + cls_token, dims)
            table, cls_row = rows[int(cls_token) :].view(h, w, dims), rows[:1]
        else:
            table, cls_row = sinusoid_2d(grid, dims), torch.zeros(1, dims)
        # Fixed and recomputable, hence not in checkpoints.
        self.register_buffer('table', table[None], persistent=False)
        self.register_buffer('cls_row', cls_row[None] if cls_token else None, persistent=False)

    @property
    def grid(self) -> Grid:
        """Native grid (h, w), in patches."""
        return self.table.shape[1], self.table.shape[2]

    def reset_parameters(self) -> None:
        """Initialize learnable parameters from a truncated normal."""
        for rows in self.parameters():
            nn.init.trunc_normal_(rows, std=self.std)

    def no_weight_decay(self) -> set[str]:
        """Parameters of this module without weight decay."""
        return {name for name, _ in self.named_parameters()}

    def forward(self, grid: Grid) -> Tensor:
        """Compute the PE of a grid.

        Args:
            grid: (h, w) of the image, in patches.

        Returns:
            PE of shape (1, [1 +] h*w, D), that of the class token first.
        """
        pos = resize_position_embedding(self.table, grid, self.interpolate_mode).flatten(1, 2)
        return pos if self.cls_row is None else torch.cat((self.cls_row, pos), dim=1)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        key = prefix + 'table'
        if key in state_dict and isinstance(self.table, nn.Parameter):
            loaded = state_dict[key]
            if loaded.ndim != 4 or loaded.shape[3] != self.table.shape[3]:
                raise UserError(
                    f'{key} of the checkpoint has shape {tuple(loaded.shape)}, but this model '
                    f'needs (1, h, w, {self.table.shape[3]}); reshape a flat table with its grid, '
                    'or set the arch of the checkpoint'
                )
            state_dict[key] = resize_position_embedding(loaded, self.grid, self.interpolate_mode)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show grid, channels and mode."""
        h, w = self.grid
        return f'grid=({h}, {w}), dims={self.table.shape[3]}, mode={self.interpolate_mode}'


def _require_multiple(dims: int, factor: int, pe_type: str) -> None:
    if dims % factor:
        raise UserError(
            f'{pe_type} needs a number of channels divisible by {factor}, got {dims}; '
            f'the nearest is {math.ceil(dims / factor) * factor}'
        )

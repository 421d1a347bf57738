"""Relative position in the attention logits: timm's MLP, and ViTDet's decomposed tables."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from .precision import at_least_float32, upcast
from .windows import Grid

RELATIVE_POSITIONS = ('mlp', 'decomposed')


class RelativePositionMlp(nn.Module):
    """Relative position bias computed by an MLP from the offset between two tokens.

    As in timm's ``vit_relpos_*`` models, after Swin V2: the offset (query minus key, in patches)
    enters as ``sign(d) * log(1 + |d|)`` along each axis. Defined at any grid.

    Args:
        num_heads: Attention heads.
        hidden_dims: Channels between the two linear layers; 128 in timm's models.
    """

    def __init__(self, num_heads: int, hidden_dims: int = 128) -> None:
        super().__init__()
        # Names as in timm.
        layers = dict(
            fc1=nn.Linear(2, hidden_dims), act=nn.ReLU(), fc2=nn.Linear(hidden_dims, num_heads)
        )
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, grid: Grid, num_extra: int = 0) -> Tensor:
        """Compute the bias of a grid, or of a window.

        Args:
            grid: (h, w), in patches.
            num_extra: Tokens before the patches, such as a class token. Their rows and columns are
                zero, as in timm.

        Returns:
            (heads, num_extra + h*w, num_extra + h*w), in float32; in float64 where the module is.
        """
        h, w = grid
        weight = next(self.parameters())
        with torch.autocast(weight.device.type, enabled=False):
            offsets = _log_offsets(grid, weight).to(weight.dtype)
            table = upcast(self.mlp(offsets)).permute(2, 0, 1)  # (heads, 2h - 1, 2w - 1)
            # The offset of query i and key j, i - j, is at index i - j + h - 1: windows of the
            # flipped table, the first for the last query. A view, without an index of all pairs.
            pairs = table.flip(1, 2).unfold(1, h, 1).unfold(2, w, 1).flip(1, 2)
        bias = pairs.flatten(3).flatten(1, 2)
        return F.pad(bias, (num_extra, 0, num_extra, 0)) if num_extra else bias


class DecomposedRelativePosition(nn.Module):
    """Decomposed relative position of ViTDet: ``q_i . R_h[dh] + q_i . R_w[dw]`` (ECCV 2022).

    With global attention the tables are resized linearly from their native grid to that of the
    image. In windows they are not resized: a smaller window at the edge uses a part of them.

    Args:
        grid: Native (h, w) in patches, of the image or of a window.
        head_dims: Channels d of a head.
        resize: Whether the tables are resized to the grid of the image.
    """

    def __init__(self, grid: Grid, head_dims: int, *, resize: bool = True) -> None:
        super().__init__()
        self.resize = resize
        # Zero at first, as in ViTDet.
        self.rows = nn.Parameter(torch.zeros(2 * grid[0] - 1, head_dims))
        self.columns = nn.Parameter(torch.zeros(2 * grid[1] - 1, head_dims))

    def forward(self, q: Tensor, grid: Grid) -> Tensor:
        """Compute the term for all pairs of tokens.

        Args:
            q: Queries of shape (B, heads, num_extra + h*w, d), not scaled.
            grid: (h, w), in patches.

        Returns:
            (B, heads, N, N); zero for tokens before the patches.
        """
        along_rows, along_columns = self.terms(q, grid)
        num_extra = q.shape[2] - grid[0] * grid[1]
        term = (along_rows[..., :, None] + along_columns[..., None, :]).flatten(3)
        return F.pad(term, (num_extra, 0, num_extra, 0))

    def augment(self, q: Tensor, k: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Augment queries and keys so that their product is ``q k^T / sqrt(d)`` plus the term.

        A key gets its row and column as one-hot vectors, a query its products with every row and
        column: d + h + w channels instead of a table of all pairs.

        Args:
            q: Queries of shape (B, heads, num_extra + h*w, d), not scaled.
            k: Keys of the same shape.
            grid: (h, w), in patches.

        Returns:
            Queries and keys of shape (B, heads, N, d + h + w), rounded up to 8.
        """
        (h, w), num_extra = grid, q.shape[2] - grid[0] * grid[1]
        terms = torch.cat(self.terms(q, grid), dim=-1)
        at_row = torch.eye(h, device=k.device).repeat_interleave(w, dim=0)
        at_column = torch.eye(w, device=k.device).repeat(h, 1)
        places = torch.cat([at_row, at_column], dim=1).to(k.dtype)
        terms, places = (F.pad(x, (0, 0, num_extra, 0)) for x in (terms, places))
        q = torch.cat([q * q.shape[-1] ** -0.5, terms.to(q.dtype)], dim=-1)
        k = torch.cat([k, places.expand(*k.shape[:2], -1, -1)], dim=-1)
        return F.pad(q, (0, -q.shape[-1] % 8)), F.pad(k, (0, -k.shape[-1] % 8))

    def terms(self, q: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Compute the products of every query with every row and every column.

        Args:
            q: Queries of shape (B, heads, num_extra + h*w, d), not scaled.
            grid: (h, w), in patches.

        Returns:
            (B, heads, h*w, h) and (B, heads, h*w, w), of the patches: the term of a query and the
            key at (y, x) is the sum of entries y and x.
        """
        patches = q[:, :, -grid[0] * grid[1] :].unflatten(2, grid)
        rows, columns = (
            self._pairs(table, side) for table, side in zip((self.rows, self.columns), grid)
        )
        return (
            torch.einsum('bnyxd,yjd->bnyxj', patches, rows).flatten(2, 3),
            torch.einsum('bnyxd,xjd->bnyxj', patches, columns).flatten(2, 3),
        )

    def _pairs(self, table: Tensor, side: int) -> Tensor:
        """(2L - 1, d) -> (side, side, d): the vector of each pair of positions on an axis."""
        native = (table.shape[0] + 1) // 2
        if native != side and self.resize:
            resized = F.interpolate(
                upcast(table).T[None], size=2 * side - 1, mode='linear', align_corners=False
            )
            table, native = resized[0].T.to(table.dtype), side
        elif native < side:
            raise UserError(f'a window of {side} patches is larger than the {native} of the table')
        place = torch.arange(side, device=table.device)
        return table[place[:, None] - place[None, :] + native - 1]

    def extra_repr(self) -> str:
        """Show the native grid."""
        h, w = ((table.shape[0] + 1) // 2 for table in (self.rows, self.columns))
        return f'grid=({h}, {w}), resize={self.resize}'


def _log_offsets(grid: Grid, like: Tensor) -> Tensor:
    """(2h - 1, 2w - 1, 2): ``sign(d) * log(1 + |d|)`` of every offset."""
    dtype = at_least_float32(like.dtype)
    along = (torch.arange(1 - n, n, device=like.device, dtype=dtype) for n in grid)
    offsets = torch.stack(torch.meshgrid(*along, indexing='ij'), dim=2)
    return offsets.sign() * offsets.abs().log1p()

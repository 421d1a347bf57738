"""Self-attention over a grid of tokens: everywhere or in windows, fused or spelt out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention_bias import GaussianAttentionBias
from .windows import Grid, merge, partition, window_regions


def scaled_dot_product(
    q: Tensor, k: Tensor, v: Tensor, fused: bool = True, bias: Tensor | None = None
) -> Tensor:
    """Softmax attention, ``softmax(q k^T / sqrt(d) + bias) v``.

    Args:
        q: Queries of shape (B, heads, N, d); ``k`` and ``v`` likewise.
        k: Keys.
        v: Values.
        fused: Whether torch's fused kernel runs, or the equation spelt out (its test oracle).
        bias: Added to the scaled logits, of shape (heads or 1, N, N), or None. Without one, torch
            may take its flash kernel.

    Returns:
        (B, heads, N, d).
    """
    if bias is not None:
        bias = bias.to(q.dtype)
    if fused:
        mask = None if bias is None else bias.expand(*q.shape[:2], -1, -1)
        return F.scaled_dot_product_attention(q, k, v, mask)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        dims: Channels D.
        num_heads: Number of heads; must divide ``dims``.
        window_size: Side of the windows attention stays in, in patches; 0 for global attention.
        fused: See :func:`scaled_dot_product`.
        bias: What is added to the logits, or None. In windows it is the window's own bias.

    Raises:
        ValueError: If ``dims`` is not divisible by ``num_heads``, or ``window_size`` is negative.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        window_size: int = 0,
        fused: bool = True,
        bias: GaussianAttentionBias | None = None,
    ) -> None:
        super().__init__()
        if dims % num_heads:
            raise ValueError(
                f'{dims} channels cannot be split into {num_heads} heads of equal width; '
                'change embed_dims or num_heads of the arch so that one divides the other'
            )
        if window_size < 0:
            raise ValueError(f'window_size must be 0 (global) or positive, got {window_size}')
        self.num_heads = num_heads
        self.window_size = window_size
        self.fused = fused
        self.qkv = nn.Linear(dims, 3 * dims)
        self.proj = nn.Linear(dims, dims)
        self.bias = bias

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Attend.

        Args:
            x: Tokens of shape (B, N, D): the h*w patches row by row, after a class token where the
                network has one.
            grid: (h, w), in patches.

        Returns:
            (B, N, D).
        """
        qkv = self.qkv(x)
        if self.window_size and max(grid) > self.window_size:
            return self.proj(self._windowed(qkv, grid))
        return self.proj(self._attend(qkv, grid))

    def _attend(self, qkv: Tensor, grid: Grid) -> Tensor:
        """(B, N, 3D) -> (B, N, D), every token seeing all N: those of a grid or of a window."""
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        num_extra = qkv.shape[1] - grid[0] * grid[1]
        bias = None if self.bias is None else self.bias(grid, num_extra)
        return scaled_dot_product(q, k, v, self.fused, bias).transpose(1, 2).flatten(2)

    def _windowed(self, qkv: Tensor, grid: Grid) -> Tensor:
        """(B, h*w, 3D) -> (B, h*w, D), every token seeing its window."""
        maps = qkv.unflatten(1, grid)
        rows: dict[int, list[Tensor]] = {}
        for region in window_regions(grid, self.window_size):
            attended = merge(self._attend(partition(maps, region), region.size), region)
            rows.setdefault(region.top, []).append(attended)
        return torch.cat([torch.cat(row, dim=2) for row in rows.values()], dim=1).flatten(1, 2)

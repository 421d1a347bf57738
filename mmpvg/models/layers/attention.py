"""Self-attention over a grid of tokens: everywhere or in windows, fused or spelt out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .windows import Grid, merge, partition, window_regions


def scaled_dot_product(q: Tensor, k: Tensor, v: Tensor, fused: bool = True) -> Tensor:
    """Softmax attention, ``softmax(q k^T / sqrt(d)) v``.

    Args:
        q: Queries of shape (B, heads, N, d); ``k`` and ``v`` likewise.
        k: Keys.
        v: Values.
        fused: Whether torch's fused kernel runs, or the equation spelt out (its test oracle).

    Returns:
        (B, heads, N, d).
    """
    if fused:
        return F.scaled_dot_product_attention(q, k, v)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return logits.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        dims: Channels D.
        num_heads: Number of heads; must divide ``dims``.
        window_size: Side of the windows attention stays in, in patches; 0 for global attention.
        fused: See :func:`scaled_dot_product`.

    Raises:
        ValueError: If ``dims`` is not divisible by ``num_heads``, or ``window_size`` is negative.
    """

    def __init__(self, dims: int, num_heads: int, window_size: int = 0, fused: bool = True) -> None:
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
        return self.proj(self._attend(qkv))

    def _attend(self, qkv: Tensor) -> Tensor:
        """(B, N, 3D) -> (B, N, D), every token seeing all N."""
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return scaled_dot_product(q, k, v, self.fused).transpose(1, 2).flatten(2)

    def _windowed(self, qkv: Tensor, grid: Grid) -> Tensor:
        """(B, h*w, 3D) -> (B, h*w, D), every token seeing its window."""
        maps = qkv.unflatten(1, grid)
        rows: dict[int, list[Tensor]] = {}
        for region in window_regions(grid, self.window_size):
            attended = merge(self._attend(partition(maps, region)), region)
            rows.setdefault(region.top, []).append(attended)
        return torch.cat([torch.cat(row, dim=2) for row in rows.values()], dim=1).flatten(1, 2)

"""Attention with the Gaussian bias in torch's ``flex_attention``, for CUDA."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .attention_bias import GaussianAttentionBias
from .windows import Grid


def has_flex_attention() -> bool:
    """Whether this torch's ``flex_attention`` can train a bias (2.6 and later)."""
    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)


def gaussian_flex_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: GaussianAttentionBias,
    grid: Grid,
    *,
    compiled: bool = True,
) -> Tensor:
    """Scaled dot-product attention with the Gaussian bias, without a table of all pairs of tokens.

    The kernel reads the two axes' tables, (heads, h, h) and (heads, w, w), and multiplies. At
    64x64 patches that is 8192 numbers a head, where a mask has 16.8 million.

    Args:
        q: Queries of shape (B, heads, num_extra + h*w, d).
        k: Keys of the same shape.
        v: Values of the same shape.
        bias: The bias.
        grid: (h, w), in patches.
        compiled: Whether the kernel is compiled; False is slow, for tests.

    Returns:
        (B, heads, N, d).
    """
    num_extra = q.shape[2] - grid[0] * grid[1]
    # A tensor: a number would be a constant of the kernel, which every image width compiles again.
    width = torch.tensor(grid[1], device=q.device)
    rows, columns = bias.axes(grid)
    # The kernel indexes by head, also where the heads share one Gaussian.
    rows, columns = (axis.expand(q.shape[1], -1, -1).contiguous() for axis in (rows, columns))

    def add_gaussian(score, batch, head, query, key):
        i, j = (query - num_extra).clamp(min=0), (key - num_extra).clamp(min=0)
        gaussian = rows[head, i // width, j // width] * columns[head, i % width, j % width]
        if not num_extra:
            return score + gaussian
        patches = (query >= num_extra) & (key >= num_extra)
        return score + torch.where(patches, gaussian, torch.zeros_like(gaussian))

    return _kernel(compiled)(q, k, v, score_mod=add_gaussian)


@cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel) if compiled else kernel

"""Multi-head self-attention over a grid of tokens, global or in windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from .attention_bias import Axes, GaussianAttentionBias
from .flex import gaussian_flex_attention
from .relative_position import DecomposedRelativePosition, RelativePositionMlp
from .windows import Grid, window_partition, window_regions, window_unpartition


def scaled_dot_product(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    fused: bool = True,
    bias: Tensor | None = None,
    scale: float | None = None,
    drop_rate: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention, ``softmax(scale * q k^T + bias) v``.

    Args:
        q: Queries of shape (B, heads, N, d).
        k: Keys of the same shape.
        v: Values of the same shape.
        fused: Whether to call torch's kernel, or to compute the equation step by step.
        bias: Added to the scaled logits, of shape ([B,] heads or 1, N, N), or None. Without one,
            torch may use its flash kernel.
        scale: By default ``1 / sqrt(d)``.
        drop_rate: Rate of the dropout of attention weights.

    Returns:
        (B, heads, N, d).
    """
    if bias is not None:
        bias = bias.to(q.dtype)
    # On CPUs torch has no fused kernel with a gradient of the bias, and what it runs instead is
    # slower than this. A trace is the same with gradients on and off.
    trains_bias = bias is not None and bias.requires_grad and not torch.jit.is_tracing()
    if fused and not (trains_bias and q.device.type == 'cpu'):
        # Not expanded: torch pads a mask of odd width, and would pad every copy.
        mask = bias[None] if bias is not None and bias.ndim == 3 else bias
        return F.scaled_dot_product_attention(q, k, v, mask, drop_rate, scale=scale)
    logits = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    weights = logits.softmax(dim=-1)
    return (F.dropout(weights, drop_rate) if drop_rate else weights) @ v


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        dims: Channels D.
        num_heads: Number of heads; must divide ``dims``.
        window_size: Side of the attention windows in patches; 0 for global attention.
        bias: Gaussian bias of the logits, or None.
        rel_pos: Relative position added to the logits, or None.
        qkv_bias: Whether queries, keys and values have a bias.
        drop_rate: Rate of the dropout of attention weights while training.
        flex: Whether global attention with the Gaussian bias runs torch's ``flex_attention`` on
            CUDA, without a table of all pairs of tokens. It has no dropout.

    Attributes:
        fused: Whether torch's fused kernels run (True), or attention is computed step by step, as
            counters of operations need it. To switch a model, set it on every ``Attention`` of
            ``model.modules()``.

    Raises:
        ValueError: If ``dims`` is not divisible by ``num_heads``, ``window_size`` is negative,
            or ``drop_rate`` is outside [0, 1).
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        window_size: int = 0,
        *,
        bias: GaussianAttentionBias | None = None,
        rel_pos: RelativePositionMlp | DecomposedRelativePosition | None = None,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        flex: bool = False,
    ) -> None:
        super().__init__()
        if dims % num_heads:
            raise UserError(
                f'{dims} channels cannot be split into {num_heads} heads of equal width; '
                'change embed_dims or num_heads of the arch so that one divides the other'
            )
        if window_size < 0:
            raise UserError(f'window_size must be 0 (global) or positive, got {window_size}')
        if not 0 <= drop_rate < 1:
            raise UserError(f'attn_drop_rate must be in [0, 1), got {drop_rate}')
        self.num_heads = num_heads
        self.window_size = window_size
        self.fused = True
        self.flex = flex
        self.drop_rate = drop_rate
        self.qkv = nn.Linear(dims, 3 * dims, bias=qkv_bias)
        self.proj = nn.Linear(dims, dims)
        self.bias = bias
        self.rel_pos = rel_pos

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """Attend.

        Args:
            x: Tokens of shape (B, N, D): the h*w patches row by row, after a class token where the
                network has one.
            grid: (h, w), in patches.

        Returns:
            (B, N, D).
        """
        if not self.window_size or max(grid) <= self.window_size:
            return self._attend(x, grid)
        # Partitioned before the projections, so that D channels are moved and not 3D.
        maps = x.unflatten(1, grid)
        out: Tensor | None = None
        # Smaller windows at the edge have a part of the others' bias.
        axes = None if self.bias is None else self.bias.axes((self.window_size,) * 2)
        for region in window_regions(grid, self.window_size):
            attended = self._attend(window_partition(maps, region), region.size, axes)
            out = attended.new_empty(maps.shape) if out is None else out
            window_unpartition(attended, region, out)
        assert out is not None
        return out.flatten(1, 2)

    def _attend(self, x: Tensor, grid: Grid, axes: Axes | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D), attention among all N tokens of a grid or of a window."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        drop_rate = self.drop_rate if self.training else 0.0
        flex = self.flex and self.fused and q.is_cuda and not self.window_size
        if flex and self.bias is not None:
            out = gaussian_flex_attention(q, k, v, self.bias, grid)
        elif self.fused and isinstance(self.rel_pos, DecomposedRelativePosition):
            q, k = self.rel_pos.augment(q, k, grid)
            bias, width = self._pair_bias(q, grid, axes, decomposed=False), v.shape[-1]
            # As wide as the keys, or torch would use none of its fused kernels.
            v = F.pad(v, (0, k.shape[-1] - width))
            out = scaled_dot_product(q, k, v, bias=bias, scale=1.0, drop_rate=drop_rate)
            out = out[..., :width]
        else:
            bias = self._pair_bias(q, grid, axes)
            out = scaled_dot_product(q, k, v, fused=self.fused, bias=bias, drop_rate=drop_rate)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _pair_bias(
        self, q: Tensor, grid: Grid, axes: Axes | None, *, decomposed: bool = True
    ) -> Tensor | None:
        """Bias of the logits for all pairs of tokens, ([B,] heads or 1, N, N), or None."""
        num_extra = q.shape[2] - grid[0] * grid[1]
        terms = [] if self.bias is None else [self.bias(grid, num_extra, axes)]
        if isinstance(self.rel_pos, RelativePositionMlp):
            terms.append(self.rel_pos(grid, num_extra))
        elif self.rel_pos is not None and decomposed:
            terms.append(self.rel_pos(q, grid))
        return sum(terms[1:], start=terms[0]) if terms else None

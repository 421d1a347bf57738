"""Transformer blocks: pre-norm, and that of Compact Transformers."""

from __future__ import annotations

from torch import Tensor, nn

from .attention import Attention
from .drop_path import DropPath
from .layer_scale import LayerScale
from .norm import LAYER_NORM_EPS, build_layer_norm
from .windows import Grid


class Mlp(nn.Module):
    """Two linear layers with a GELU between them.

    Args:
        dims: Channels D.
        hidden_dims: Channels between the layers.
    """

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden_dims)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Transformer block: ``x + attn(norm1(x) + pe)``, then ``x + mlp(norm2(x))``.

    Args:
        dims: Channels D.
        attention: The attention.
        mlp_ratio: Hidden channels of the MLP over D.
        drop_path_rate: Stochastic depth rate of both branches.
        layer_scale_init_value: Initial value of the ``LayerScale`` of both branches; None for no
            LayerScale.
        eps: Epsilon of both LayerNorms.
    """

    def __init__(
        self,
        dims: int,
        attention: Attention,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = None,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        super().__init__()
        self.norm1 = build_layer_norm(dims, eps)
        self.attn = attention
        self.norm2 = build_layer_norm(dims, eps)
        self.mlp = Mlp(dims, int(dims * mlp_ratio))
        self.ls1 = _layer_scale(dims, layer_scale_init_value)
        self.ls2 = _layer_scale(dims, layer_scale_init_value)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, pe: Tensor | None, grid: Grid) -> Tensor:
        """Run the block.

        Args:
            x: Tokens of shape (B, N, D).
            pe: The PE delivered to this block, of shape (1, N, D), or None.
            grid: (h, w), in patches.

        Returns:
            (B, N, D).
        """
        y = self.norm1(x)
        if pe is not None:
            y = y + pe
        x = x + self.drop_path(self.ls1(self.attn(y, grid)))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class CompactBlock(nn.Module):
    """Block of Compact Transformers: a LayerNorm on the residual stream before the MLP.

    ``x = stream_norm(x + attn(norm1(x) + pe))``, then ``x + mlp(x)``: unlike in a pre-norm block,
    the MLP's skip connection starts after the norm (Compact Transformers' code, arXiv 2104.05704).
    ``norm1`` is where the PE of LaPE, PVG and MPVG enters, as in ``Block``.

    Args:
        dims: Channels D.
        attention: The attention.
        mlp_ratio: Hidden channels of the MLP over D.
        drop_path_rate: Stochastic depth rate of both branches.
        eps: Epsilon of both LayerNorms.
    """

    def __init__(
        self,
        dims: int,
        attention: Attention,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        super().__init__()
        self.norm1 = build_layer_norm(dims, eps)
        self.attn = attention
        # Not norm2, or the weights of a pre-norm block would load without an error.
        self.stream_norm = build_layer_norm(dims, eps)
        self.mlp = Mlp(dims, int(dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, pe: Tensor | None, grid: Grid) -> Tensor:
        """Run the block.

        Args:
            x: Tokens of shape (B, N, D).
            pe: The PE delivered to this block, of shape (1, N, D), or None.
            grid: (h, w), in patches.

        Returns:
            (B, N, D).
        """
        y = self.norm1(x)
        if pe is not None:
            y = y + pe
        x = self.stream_norm(x + self.drop_path(self.attn(y, grid)))
        return x + self.drop_path(self.mlp(x))


def _layer_scale(dims: int, init_value: float | None) -> nn.Module:
    return nn.Identity() if init_value is None else LayerScale(dims, init_value)

"""ViT-Adapter's injector, extractor, and the interaction that joins them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers import DropPath, build_layer_norm
from ..layers.precision import upcast
from .levels import DeformableInputs, Level, flatten_maps, unflatten_tokens
from .spatial_prior import init_convolution


class DeformableCrossAttention(nn.Module):
    """Cross-attention by mmcv's multi-scale deformable attention, with pre-norms.

    Args:
        dims: Channels D.
        num_heads: Heads.
        num_levels: Number of maps that are sampled.
        num_points: Points that a head samples in each.
        value_ratio: Channels of the values over D.
    """

    def __init__(
        self, dims: int, num_heads: int, num_levels: int, num_points: int, value_ratio: float
    ) -> None:
        super().__init__()
        from mmcv.ops import MultiScaleDeformableAttention

        self.query_norm = build_layer_norm(dims)
        self.feat_norm = build_layer_norm(dims)
        self.attn = MultiScaleDeformableAttention(
            dims,
            num_heads,
            num_levels,
            num_points,
            dropout=0.0,
            batch_first=True,
            value_proj_ratio=value_ratio,
        )
        # mmcv casts the sampling points to the type of the values. Under autocast float16 would
        # move them by a tenth of a cell on a large map, and bfloat16 by a whole one.
        self.attn.value_proj.register_forward_hook(_upcast_output)
        self.attn.output_proj.register_forward_pre_hook(_cast_to_weight)

    def attend(self, x: Tensor, feat: Tensor, inputs: DeformableInputs) -> Tensor:
        """Attend from x to feat.

        Args:
            x: Queries of shape (B, N, D).
            feat: Tokens of the maps that are sampled, of shape (B, M, D).
            inputs: Reference points of the queries, and the shapes of the maps.

        Returns:
            (B, N, D), without a residual.
        """
        return self.attn(
            self.query_norm(x),
            value=self.feat_norm(feat),
            identity=x.new_zeros(()),
            reference_points=inputs.reference_points,
            spatial_shapes=inputs.spatial_shapes,
            level_start_index=inputs.level_start_index,
        )


class Injector(DeformableCrossAttention):
    """Injector: ``x + gamma * attention(norm(x), norm(c))``, equation 1 of the paper.

    ``gamma`` starts at zero, so that the pre-trained ViT is unchanged at first.
    """

    def __init__(self, dims: int, num_heads: int, num_points: int, value_ratio: float) -> None:
        super().__init__(dims, num_heads, 3, num_points, value_ratio)
        self.gamma = nn.Parameter(torch.zeros(dims))

    def forward(self, x: Tensor, feat: Tensor, inputs: DeformableInputs) -> Tensor:
        """Add features of the pyramid (feat) to the ViT's patches (x); returns (B, N, D)."""
        return x + self.gamma * self.attend(x, feat, inputs)


class ConvMlp(nn.Module):
    """MLP with a 3x3 depth-wise convolution on the map of each level before the GELU.

    Args:
        dims: Channels D.
        hidden_dims: Channels between the linear layers.
    """

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden_dims)
        self.dwconv = nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, dims)
        for linear in (self.fc1, self.fc2):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        init_convolution(self.dwconv)

    def forward(self, x: Tensor, levels: Sequence[Level]) -> Tensor:
        """Map the concatenated tokens of the levels, (B, N, D), to (B, N, D)."""
        maps = unflatten_tokens(self.fc1(x), levels)
        return self.fc2(self.act(flatten_maps([self.dwconv(m) for m in maps])))


class Extractor(DeformableCrossAttention):
    """Extractor: ``c + attention(norm(c), norm(x))``, then ``c + mlp(norm(c))``.

    Equations 2 and 3 of the paper; drop path on the MLP alone, as in its code.

    Args:
        dims: Channels D.
        num_heads: Heads of the deformable attention.
        num_points: Points that a head samples.
        value_ratio: Channels of the values over D.
        mlp_ratio: Hidden channels of the ``ConvMlp`` over D.
        drop_path_rate: Rate of stochastic depth.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        num_points: int,
        value_ratio: float,
        mlp_ratio: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__(dims, num_heads, 1, num_points, value_ratio)
        self.mlp_norm = build_layer_norm(dims)
        self.mlp = ConvMlp(dims, int(dims * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self, x: Tensor, feat: Tensor, inputs: DeformableInputs, levels: Sequence[Level]
    ) -> Tensor:
        """Add the ViT's patches (feat) to the pyramid (x, tokens of the levels); (B, N, D)."""
        x = x + self.attend(x, feat, inputs)
        return x + self.drop_path(self.mlp(self.mlp_norm(x), levels))


class Interaction(nn.Module):
    """The injector before a group of blocks and the extractors after it.

    Args:
        injector: The injector.
        extractors: The extractors, in their order.
    """

    def __init__(self, injector: Injector, extractors: Sequence[Extractor]) -> None:
        super().__init__()
        self.injector = injector
        self.extractors = nn.ModuleList(extractors)


def _upcast_output(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    return upcast(output)


def _cast_to_weight(module: nn.Linear, inputs: tuple[Tensor]) -> tuple[Tensor]:
    # For a model in half precision; autocast casts by itself.
    return (inputs[0].to(module.weight.dtype),)

"""LayerNorm over tokens and over feature maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Of ViT, DeiT and MAE. mmcv's norm builder would set 1e-5.
LAYER_NORM_EPS = 1e-6


def build_layer_norm(dims: int, eps: float = LAYER_NORM_EPS) -> nn.LayerNorm:
    """Build a LayerNorm over the last axis of (..., D)."""
    return nn.LayerNorm(dims, eps=eps)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, H, W) map, as in ViTDet's pyramid.

    The output is contiguous, which mmcv's RoIAlign assumes without a check.

    Args:
        channels: Channels C.
        eps: Epsilon, added to the variance.
    """

    def __init__(self, channels: int, eps: float = LAYER_NORM_EPS) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a (B, C, H, W) map over C."""
        x = F.layer_norm(
            x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return x.permute(0, 3, 1, 2).contiguous()

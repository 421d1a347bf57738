"""A learnable scale on a residual branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """``gamma * x``, one factor a channel (CaiT, ICCV 2021; in DeiT III and DINOv2 too).

    Args:
        dims: Channels D.
        init: What every factor starts from.
    """

    def __init__(self, dims: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dims,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (..., D)."""
        return x * self.gamma

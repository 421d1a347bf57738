"""LayerScale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Learnable scale per channel on a residual branch (CaiT, ICCV 2021).

    Args:
        dims: Channels D.
        init_value: Initial value of the scale.
    """

    def __init__(self, dims: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dims,), float(init_value)))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (..., D)."""
        return x * self.gamma

"""Stochastic depth."""

from __future__ import annotations

from torch import Tensor, nn

from mmpvg.utils.errors import UserError


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch per sample while training (ECCV 2016).

    Kept branches are scaled by 1 / (1 - rate).

    Args:
        rate: Probability of dropping, in [0, 1).

    Raises:
        ValueError: If ``rate`` is outside [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UserError(f'drop path rate must be in [0, 1), got {rate}')
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Apply to a branch of shape (B, ...)."""
        if self.rate == 0 or not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep.div_(1 - self.rate)

    def extra_repr(self) -> str:
        """Show the rate."""
        return f'rate={self.rate:.3f}'

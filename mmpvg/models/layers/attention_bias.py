"""Biases on the attention logits that depend on where two tokens lie to each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import upcast
from .windows import Grid

Axes = tuple[Tensor, Tensor]


class GaussianAttentionBias(nn.Module):
    """A learnable Gaussian of the distance between two tokens (GAB, BMVC 2023, arXiv 2305.04722).

    ``G_ij = a^2 * exp(-(dh^2 + dw^2) / (2 sigma^2))``, with offsets in patches. It is added to the
    logits after their scaling. The Gaussian is a product of one along the rows and one along the
    columns, and is built so.

    Amplitudes and widths carry no weight decay.

    Args:
        num_heads: Gaussians: 1 for one that all heads share, or one a head. The authors' code has
            both.
    """

    def __init__(self, num_heads: int = 1) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(num_heads))
        self.sigma = nn.Parameter(torch.full((num_heads,), 5.0))

    def forward(self, grid: Grid, num_extra: int = 0, larger: Axes | None = None) -> Tensor:
        """Give the bias of a grid, or of a window.

        Args:
            grid: (h, w), in patches.
            num_extra: Tokens before the patches, such as a class token. Their rows and columns are
                zero ([open] in the paper).
            larger: What ``axes`` gave for a grid that holds this one, to take it from there.

        Returns:
            (heads, num_extra + h*w, num_extra + h*w), in float32; in float64 where the module is.
        """
        with torch.autocast(self.a.device.type, enabled=False):
            rows, columns = self.axes(grid, larger)
            bias = rows[:, :, None, :, None] * columns[:, None, :, None, :]
        bias = bias.flatten(3).flatten(1, 2)
        return F.pad(bias, (num_extra, 0, num_extra, 0)) if num_extra else bias

    def axes(self, grid: Grid, larger: Axes | None = None) -> Axes:
        """Give the two factors of the bias: along the rows, with the amplitude, and the columns.

        Args:
            grid: (h, w), in patches.
            larger: Those of a grid that holds this one, to cut them out.

        Returns:
            (heads, h, h) and (heads, w, w), of the bias's type.
        """
        if larger is not None:
            return tuple(axis[:, :side, :side] for axis, side in zip(larger, grid))
        rows, columns = (self._along(side) for side in grid)
        return upcast(self.a).square()[:, None, None] * rows, columns

    def _along(self, side: int) -> Tensor:
        """(heads, side, side): the Gaussian of the offset along one axis."""
        place = torch.arange(side, device=self.sigma.device, dtype=torch.float32)
        squared = (place[:, None] - place[None, :]).square()
        # A width of zero, which training may cross, must not divide zero by zero.
        width = upcast(self.sigma).square().clamp(min=1e-6)
        return torch.exp(-squared / (2 * width[:, None, None]))

    def extra_repr(self) -> str:
        """Show the number of Gaussians."""
        return f'num_heads={len(self.a)}'

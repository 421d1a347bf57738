"""Gaussian attention bias."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import upcast
from .windows import Grid

Axes = tuple[Tensor, Tensor]


class GaussianAttentionBias(nn.Module):
    """Gaussian attention bias (GAB, BMVC 2023, arXiv 2305.04722).

    ``G_ij = a^2 * exp(-(dh^2 + dw^2) / (2 sigma^2))``, with offsets in patches, is added to the
    scaled logits. It is computed as the product of a Gaussian along the rows and one along the
    columns. Amplitudes and widths have no weight decay.

    Args:
        num_heads: Number of Gaussians: 1 for one that all heads share, or one per head. The
            authors' code has both.
    """

    def __init__(self, num_heads: int = 1) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.ones(num_heads))
        self.sigma = nn.Parameter(torch.full((num_heads,), 5.0))

    def forward(self, grid: Grid, num_extra: int = 0, larger: Axes | None = None) -> Tensor:
        """Compute the bias of a grid, or of a window.

        Args:
            grid: (h, w), in patches.
            num_extra: Tokens before the patches, such as a class token. Their rows and columns are
                zero ([open] in the paper).
            larger: ``axes`` of a grid that contains this one, to take a part of.

        Returns:
            (heads, num_extra + h*w, num_extra + h*w), in float32; in float64 where the module is.
        """
        with torch.autocast(self.a.device.type, enabled=False):
            rows, columns = self.axes(grid, larger)
            bias = rows[:, :, None, :, None] * columns[:, None, :, None, :]
        bias = bias.flatten(3).flatten(1, 2)
        return F.pad(bias, (num_extra, 0, num_extra, 0)) if num_extra else bias

    def axes(self, grid: Grid, larger: Axes | None = None) -> Axes:
        """Compute the two factors of the bias: along the rows, with the amplitude, and the columns.

        Args:
            grid: (h, w), in patches.
            larger: ``axes`` of a grid that contains this one, to take a part of.

        Returns:
            (heads, h, h) and (heads, w, w), of the bias's type.
        """
        if larger is not None:
            rows, columns = (axis[:, :side, :side] for axis, side in zip(larger, grid))
            return rows, columns
        rows, columns = (self._along(side) for side in grid)
        return upcast(self.a).square()[:, None, None] * rows, columns

    def _along(self, side: int) -> Tensor:
        """(heads, side, side): Gaussian of the offset along one axis."""
        place = torch.arange(side, device=self.sigma.device, dtype=torch.float32)
        squared = (place[:, None] - place[None, :]).square()
        # Training may cross a width of zero.
        width = upcast(self.sigma).square().clamp(min=1e-6)
        return torch.exp(-squared / (2 * width[:, None, None]))

    def extra_repr(self) -> str:
        """Show the number of Gaussians."""
        return f'num_heads={len(self.a)}'

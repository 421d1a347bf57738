"""Patch embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from .tracing import spatial_size
from .windows import Grid


class PatchEmbed(nn.Module):
    """Patch embedding of images of any size.

    Images are padded with zeros at the right and the bottom to a multiple of the patch, so the grid
    is (ceil(H / P), ceil(W / P)).

    Args:
        patch_size: Side P of a patch in pixels, or a pair of equal sides.
        in_channels: Channels of the image.
        dims: Channels D of a token.

    Raises:
        ValueError: If ``patch_size`` is below 1 or a pair of unequal sides.
    """

    def __init__(self, patch_size: int | Sequence[int], in_channels: int, dims: int) -> None:
        super().__init__()
        self.patch_size = square_side(patch_size)
        self.proj = nn.Conv2d(in_channels, dims, self.patch_size, stride=self.patch_size)

    def forward(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Embed images.

        Args:
            image: (B, C, H, W).

        Returns:
            Tokens of shape (B, h*w, D), row by row, and the grid (h, w).

        Raises:
            ValueError: If the image is not (B, C, H, W) or smaller than a patch.
        """
        if image.ndim != 4 or image.shape[1] != self.proj.in_channels:
            raise UserError(
                f'expected images of shape (B, {self.proj.in_channels}, H, W), '
                f'got {tuple(image.shape)}; set in_channels if the images have other channels'
            )
        height, width = spatial_size(image)
        if min(height, width) < self.patch_size:
            raise UserError(
                f'an image of {height}x{width} pixels is smaller than a patch of '
                f'{self.patch_size}x{self.patch_size}; resize it, or use a smaller patch_size'
            )
        pad_bottom, pad_right = -height % self.patch_size, -width % self.patch_size
        if pad_bottom or pad_right:
            image = F.pad(image, (0, pad_right, 0, pad_bottom))
        tokens = self.proj(image)
        grid = spatial_size(tokens)
        # Contiguous, or the residual stream would inherit the convolution's strides, and every
        # LayerNorm would copy it.
        return tokens.flatten(2).transpose(1, 2).contiguous(), grid


def square_side(patch_size: int | Sequence[int]) -> int:
    """Side of a patch in pixels, from a number or a pair of equal sides.

    Raises:
        ValueError: If it is not positive, or the sides differ.
    """
    sides = (patch_size,) * 2 if isinstance(patch_size, int) else tuple(patch_size)
    if len(sides) != 2 or sides[0] != sides[1] or sides[0] < 1:
        raise UserError(
            'patch_size must be a positive number of pixels, or a pair of equal ones, since '
            f'patches are square; got {patch_size}'
        )
    return sides[0]

"""Cutting a grid of tokens into windows, without padding it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Grid = tuple[int, int]


class Region(NamedTuple):
    """A rectangle of a grid that holds a whole number of windows of one size.

    Attributes:
        top: First row.
        left: First column.
        count: Windows down and across.
        size: Height and width of each window.
    """

    top: int
    left: int
    count: Grid
    size: Grid


def window_regions(grid: Grid, window_size: int) -> list[Region]:
    """Split a grid into at most four regions of equal windows, row-major.

    The interior holds square windows; what is left at the right, at the bottom and in the corner
    holds windows of the size that is left. Attention inside them is exactly attention in a padded
    window whose padding is masked, and no token is computed that the image does not have.

    Args:
        grid: (h, w), in patches.
        window_size: Side of a full window, in patches, at least 1.
    """

    def spans(length: int) -> list[tuple[int, int, int]]:
        full, rest = divmod(length, window_size)
        found = [(0, full, window_size)] if full else []
        return found + ([(full * window_size, 1, rest)] if rest else [])

    return [
        Region(top, left, (down, across), (height, width))
        for top, down, height in spans(grid[0])
        for left, across, width in spans(grid[1])
    ]


def partition(x: Tensor, region: Region) -> Tensor:
    """Take the windows of a region out of a grid of tokens.

    Args:
        x: (B, h, w, D).
        region: One of ``window_regions``.

    Returns:
        (B * windows, height * width, D).
    """
    return _cells(x, region).flatten(3, 4).flatten(0, 2)


def place(windows: Tensor, region: Region, x: Tensor) -> None:
    """Undo ``partition``: write the windows of a region to their place in a grid of tokens.

    Args:
        windows: (B * windows, height * width, D).
        region: The region the windows came from.
        x: (B, h, w, D), changed in place.
    """
    cells = _cells(x, region)
    cells.copy_(windows.view(cells.shape))


def _cells(x: Tensor, region: Region) -> Tensor:
    """A view of a region by windows: (B, down, across, height, width, D)."""
    (down, across), (height, width) = region.count, region.size
    bottom, right = region.top + down * height, region.left + across * width
    x = x[:, region.top : bottom, region.left : right]
    return x.unflatten(1, (down, height)).unflatten(3, (across, width)).transpose(2, 3)

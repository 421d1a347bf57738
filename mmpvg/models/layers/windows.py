"""Partition of a grid of tokens into windows, without padding."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Grid = tuple[int, int]


class Region(NamedTuple):
    """A rectangle of a grid that holds a whole number of windows of one size.

    Attributes:
        top: First row.
        left: First column.
        num_windows: Windows down and across.
        size: Height and width of each window.
    """

    top: int
    left: int
    num_windows: Grid
    size: Grid


def window_regions(grid: Grid, window_size: int) -> list[Region]:
    """Split a grid into at most four regions of equal windows, row-major.

    The interior holds square windows; the remainders at the right, at the bottom and in the corner
    hold smaller ones. Attention in a smaller window equals attention in a padded window whose
    padding is masked, without computing the padding.

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


def window_partition(x: Tensor, region: Region) -> Tensor:
    """Partition a region of a grid of tokens into its windows.

    Args:
        x: (B, h, w, D).
        region: One of ``window_regions``.

    Returns:
        (B * windows, height * width, D).
    """
    return _cells(x, region).flatten(3, 4).flatten(0, 2)


def window_unpartition(windows: Tensor, region: Region, out: Tensor) -> None:
    """Write the windows of a region to their place in a grid of tokens.

    Args:
        windows: (B * windows, height * width, D).
        region: The region the windows came from.
        out: (B, h, w, D), changed in place.
    """
    cells = _cells(out, region)
    cells.copy_(windows.view(cells.shape))


def _cells(x: Tensor, region: Region) -> Tensor:
    """A view of a region by windows: (B, down, across, height, width, D)."""
    (down, across), (height, width) = region.num_windows, region.size
    bottom, right = region.top + down * height, region.left + across * width
    x = x[:, region.top : bottom, region.left : right]
    return x.unflatten(1, (down, height)).unflatten(3, (across, width)).transpose(2, 3)

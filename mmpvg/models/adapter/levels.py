"""Levels of a feature pyramid as one sequence of tokens, and inputs of deformable attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..layers.precision import at_least_float32
from ..layers.windows import Grid


class Level(NamedTuple):
    """A map of a pyramid.

    Attributes:
        grid: (h, w), in cells.
        stride: Side of a cell, in pixels.
    """

    grid: Grid
    stride: int

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.grid[0] * self.grid[1]


def flatten_maps(maps: Sequence[Tensor]) -> Tensor:
    """(B, D, h, w) of every level -> (B, N, D), level by level, row by row."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)


def unflatten_tokens(tokens: Tensor, levels: Sequence[Level]) -> list[Tensor]:
    """Undo ``flatten_maps``."""
    parts = tokens.split([level.size for level in levels], dim=1)
    return [part.transpose(1, 2).unflatten(2, level.grid) for part, level in zip(parts, levels)]


class DeformableInputs(NamedTuple):
    """Inputs of multi-scale deformable attention beside queries and values.

    Attributes:
        reference_points: (1, N, maps, 2): x and y of the center of each query cell over the width
            and height of each map.
        spatial_shapes: (maps, 2): height and width of each map.
        level_start_index: (maps,): index of the first token of each map.
    """

    reference_points: Tensor
    spatial_shapes: Tensor
    level_start_index: Tensor

    @classmethod
    def build(
        cls, queries: Sequence[Level], maps: Sequence[Level], like: Tensor
    ) -> DeformableInputs:
        """Compute them for the cells of some levels as queries, and some maps that are sampled.

        Args:
            queries: Levels whose cells are the queries.
            maps: Levels that are sampled.
            like: Sets device and type; half types get reference points in float32.
        """
        spatial_shapes = torch.tensor([level.grid for level in maps], device=like.device)
        ends = spatial_shapes.prod(1).cumsum(0)
        return cls(
            get_reference_points(queries, maps, like.device, at_least_float32(like.dtype)),
            spatial_shapes,
            torch.cat([ends.new_zeros(1), ends[:-1]]),
        )


def get_reference_points(
    queries: Sequence[Level],
    maps: Sequence[Level],
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Compute where the center of each query cell lies in every map.

    In pixels first, so that the levels agree where an image is no multiple of every stride and
    their maps reach over its edge by different amounts. ViT-Adapter does not take such sizes.

    Args:
        queries: Levels whose cells are the queries.
        maps: Levels that are sampled.
        device: Device of the points.
        dtype: Type of the points.

    Returns:
        (1, N, maps, 2): x and y over the width and height of each map, in [0, 1] inside it.
    """
    centers = torch.cat([_centers(level, device, dtype) for level in queries])
    extents = torch.tensor(
        [(level.grid[1] * level.stride, level.grid[0] * level.stride) for level in maps],
        dtype=dtype,
        device=device,
    )
    return (centers[:, None] / extents)[None]


def _centers(level: Level, device: torch.device | None, dtype: torch.dtype) -> Tensor:
    """(cells, 2): x and y of the centers of a map's cells, in pixels."""
    rows, columns = (
        (torch.arange(side, dtype=dtype, device=device) + 0.5) * level.stride for side in level.grid
    )
    return torch.cartesian_prod(rows, columns).flip(1)

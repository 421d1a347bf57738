"""A pyramid of maps as one row of tokens, and where its tokens lie in each other's maps."""

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


def reference_points(
    queries: Sequence[Level], keys: Sequence[Level], device=None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Where each query cell's centre lies in every key map.

    In pixels first, so that the levels agree where an image is no multiple of every stride and
    their maps reach over its edge by different amounts. ViT-Adapter takes such sizes not at all.

    Args:
        queries: Levels whose cells ask.
        keys: Levels whose maps are sampled.
        device: Device of the points.
        dtype: Type of the points.

    Returns:
        (1, N, keys, 2): x and y over the width and height of each key map, in [0, 1] inside it.
    """
    centres = torch.cat([_centres(level, device, dtype) for level in queries])
    extents = torch.tensor(
        [(key.grid[1] * key.stride, key.grid[0] * key.stride) for key in keys],
        dtype=dtype,
        device=device,
    )
    return (centres[:, None] / extents)[None]


class SamplingPlaces(NamedTuple):
    """What deformable attention is told about its queries and maps.

    Attributes:
        points: ``reference_points`` of the queries in the maps.
        shapes: (maps, 2): height and width of each.
        starts: (maps,): the first token of each.
    """

    points: Tensor
    shapes: Tensor
    starts: Tensor

    @classmethod
    def of(cls, queries: Sequence[Level], maps: Sequence[Level], like: Tensor) -> SamplingPlaces:
        """Compute them for cells of some levels that sample some maps.

        Args:
            queries: Levels whose cells sample.
            maps: Levels that are sampled.
            like: Sets device and type; half types get points in float32.
        """
        shapes = torch.tensor([level.grid for level in maps], device=like.device)
        ends = shapes.prod(1).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        points = reference_points(queries, maps, like.device, at_least_float32(like.dtype))
        return cls(points, shapes, starts)


def _centres(level: Level, device, dtype: torch.dtype) -> Tensor:
    """(cells, 2): x and y of the centres of a map's cells, in pixels."""
    rows, columns = (
        (torch.arange(side, dtype=dtype, device=device) + 0.5) * level.stride for side in level.grid
    )
    return torch.cartesian_prod(rows, columns).flip(1)

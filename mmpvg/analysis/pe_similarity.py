"""Similarity of the rows of the PE: in the table, in each block, and after a resize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpvg.utils.errors import UserError

from ..models.backbones import PlainViT
from ..models.layers import resize_position_embedding
from ..models.layers.windows import Grid
from .counterbalance import pearson


def cosine_similarity(rows: Tensor) -> Tensor:
    """Cosine similarity of every two of rows (N, D): (N, N), in float32."""
    rows = F.normalize(rows.float(), dim=1)
    return rows @ rows.T


def similarity_mosaic(
    pe: Tensor, tiles: int | None = None
) -> tuple[np.ndarray, list[int], list[int]]:
    """Compute the similarity of every row to all others, as a mosaic of maps (LaPE paper).

    Args:
        pe: PE of shape (h, w, D).
        tiles: Maps down and across at most, spread evenly; all by default.

    Returns:
        Mosaic of shape (tiles down, tiles across, h, w): ``mosaic[i, j, y, x]`` is the similarity
        of the token in row ``ys[i]``, column ``xs[j]`` and the one in row y, column x; ys; xs.
    """
    ys, xs = (_spread(side, tiles) for side in pe.shape[:2])
    pe = F.normalize(pe.float(), dim=2)
    return torch.einsum('ijd,yxd->ijyx', pe[ys][:, xs], pe).cpu().numpy(), ys, xs


def neighbor_contrast(pe: Tensor) -> float:
    """Compute how much more similar neighbors are than any two tokens.

    Args:
        pe: PE of shape (h, w, D).

    Returns:
        Mean cosine similarity of tokens beside and above each other, less that of all pairs of
        different tokens; about 0 for a PE as initialized.
    """
    pe = F.normalize(pe.float(), dim=2)
    beside, above = (pe[:, 1:] * pe[:, :-1]).sum(2), (pe[1:] * pe[:-1]).sum(2)
    pairs = cosine_similarity(pe.flatten(0, 1))
    number = len(pairs)
    others = (pairs.sum() - number) / (number * (number - 1))
    return (torch.cat([beside.flatten(), above.flatten()]).mean() - others).item()


def delivered_tables(
    vit: PlainViT, grid: Grid | None = None, kernel: str | None = None
) -> dict[str, Tensor]:
    """Compute every PE of a network at a grid.

    Args:
        vit: The network.
        grid: (h, w), in patches; by default the native one.
        kernel: Kernel that resizes the table; by default the network's.

    Returns:
        Place (``table``, ``block 3``, ``last norm``) -> rows of patches, (h, w, D).

    Raises:
        UserError: If the network has no PE.
    """
    if vit.position_embedding is None:
        raise UserError('this network has no position embedding')
    grid = grid or vit.position_embedding.grid
    kernel = kernel or vit.position_embedding.interpolate_mode
    with torch.no_grad():
        own = vit.position_embedding.table.detach()
        table = resize_position_embedding(own, grid, kernel)
        # A norm takes each row by itself, so the class token's is not missed.
        delivered = vit.pe_delivery(table.flatten(1, 2))
    every = {'table': table.flatten(1, 2)}
    every.update((f'block {index}', pe) for index, pe in enumerate(delivered.blocks))
    every['last norm'] = delivered.last_norm
    return {name: pe[0].unflatten(0, grid) for name, pe in every.items() if pe is not None}


@dataclass(frozen=True)
class ResizeDistortion:
    """Distortion of a PE by a resize of the table, at the places of the native grid.

    Attributes:
        source: Which PE, as ``delivered_tables`` names it.
        grid: (h, w) of the resized table.
        kernel: Kernel of the resize.
        error: Mean absolute difference of the similarities of two places before and after.
        correlation: Pearson's of the same similarities.
        kept: Mean cosine similarity of a place's row before and after.
        norm_ratio: Mean norm of all rows after over that before. A resize upwards gives shorter
            rows between the old ones; PE norms restore their length.
    """

    source: str
    grid: Grid
    kernel: str
    error: float
    correlation: float
    kept: float
    norm_ratio: float


def resize_distortions(
    vit: PlainViT,
    grids: Sequence[Grid],
    kernels: Sequence[str] = ('bicubic', 'bilinear', 'nearest-exact'),
) -> list[ResizeDistortion]:
    """Measure the distortions of the table and of every delivered PE by resizes.

    At the resized grid the row of a native place is interpolated bilinearly between the tokens'
    centers.

    Args:
        vit: The network.
        grids: Grids (h, w), in patches.
        kernels: Kernels of ``resize_position_embedding``.

    Raises:
        UserError: If the network has no PE.
    """
    native = delivered_tables(vit)
    before = {source: cosine_similarity(pe.flatten(0, 1)) for source, pe in native.items()}
    return [
        _distortion(source, kernel, native[source], before[source], resized)
        for grid in grids
        for kernel in kernels
        for source, resized in delivered_tables(vit, grid, kernel).items()
    ]


def _distortion(
    source: str, kernel: str, native: Tensor, before: Tensor, resized: Tensor
) -> ResizeDistortion:
    rows, read = native.flatten(0, 1), _read_at_places_of(native, resized)
    after = cosine_similarity(read)
    return ResizeDistortion(
        source=source,
        grid=tuple(resized.shape[:2]),
        kernel=kernel,
        error=(after - before).abs().mean().item(),
        correlation=pearson(before[None], after[None]).item(),
        kept=torch.cosine_similarity(rows, read, dim=1).mean().item(),
        norm_ratio=(resized.norm(dim=2).mean() / rows.norm(dim=1).mean()).item(),
    )


def _read_at_places_of(native: Tensor, resized: Tensor) -> Tensor:
    """(H, W, D), (h, w, D) -> (H*W, D): the second's rows at the centers of the first's patches."""
    y, x = ((torch.arange(side) * 2 + 1) / side - 1 for side in native.shape[:2])
    places = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=2)[None].to(resized)
    maps = resized.permute(2, 0, 1)[None]
    read = F.grid_sample(maps, places, padding_mode='border', align_corners=False)
    return read[0].flatten(1).T


def _spread(side: int, tiles: int | None) -> list[int]:
    if tiles is None or tiles >= side:
        return list(range(side))
    return [(2 * index + 1) * side // (2 * tiles) for index in range(tiles)]

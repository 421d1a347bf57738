"""Counterbalance of the tokens and the PE, block by block (MPVG paper)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

from ..models.backbones import PlainViT
from ..models.layers.windows import Grid
from .inspection import NetworkRecord, record_network


@dataclass(frozen=True)
class LastNorm:
    """The tokens at the last norm, averaged over images; maps are (h, w).

    Attributes:
        before: L2 norm of each token after the last block.
        after: L2 norm of each token after the last norm and the PE delivered there.
        cosine: Cosine similarity of each token before and after.
        bias_variance: Variance over channels of the last norm's bias, 0.2387 for PVG and 0.0193 for
            MPVG in the paper (DeiT-Ti); None without a last norm.
        pe_bias_variance: The same of the PE's own norm there.
    """

    before: np.ndarray
    after: np.ndarray
    cosine: np.ndarray
    bias_variance: float | None
    pe_bias_variance: float | None


@dataclass(frozen=True)
class Counterbalance:
    """Correlations of the tokens and the PE in every block.

    Attributes:
        grid: (h, w), in patches.
        delivered: Correlation of the token embedding and the PE delivered to the block, of shape
            (images, L); NaN for blocks that receive none.
        table: Correlation of the token embedding and the raw table on this grid, (images, L), for
            every delivery, ``default`` too.
        averaged: As ``delivered``, of the token embedding averaged over the images first, (L,).
            Averaging removes what differs between images, so that magnitudes are larger.
        averaged_table: As ``table``, of the averaged token embedding, (L,).
        embeddings: The token embedding of every block, mean over images, (L, h*w, D).
        pes: The PE delivered to every block, (h*w, D), or None.
        last_norm: The tokens at the last norm.
    """

    grid: Grid
    delivered: np.ndarray
    table: np.ndarray
    averaged: np.ndarray
    averaged_table: np.ndarray
    embeddings: np.ndarray
    pes: list[np.ndarray | None]
    last_norm: LastNorm


def measure_counterbalance(vit: PlainViT, batches: Iterable[Tensor]) -> Counterbalance:
    """Correlate token embeddings and PE in every block.

    The token embedding of block l is ``LN_x,l(x_l)``, the PE ``p_l``; both after their norms, as
    they are added. The correlation is Pearson's over all token x channel entries ([open] in the
    paper), over patches alone: of each image, and of the mean over the images.

    Args:
        vit: The network, in evaluation.
        batches: Images of shape (B, C, H, W), all of one size.

    Raises:
        ValueError: If there is no image, or their sizes differ.
    """
    delivered: list[Tensor] = []
    table: list[Tensor] = []
    embeddings: Tensor | float = 0.0
    maps: Tensor | float = 0.0
    record: NetworkRecord | None = None
    grid: Grid | None = None
    with torch.no_grad():
        for images in batches:
            record = record_network(vit, images)
            if grid not in (None, record.grid):
                raise UserError(
                    f'images of one size are needed to average over them, got grids {grid} and '
                    f'{record.grid}'
                )
            grid = record.grid
            found = [block.embedding for block in record.blocks]
            delivered.append(_correlations(found, [block.pe for block in record.blocks]))
            table.append(_correlations(found, [record.table] * len(found)))
            sums = [embedding.double().sum(0) for embedding in found]
            embeddings, maps = embeddings + torch.stack(sums), maps + _last_norm_maps(record)
    if record is None:
        raise UserError('there is no image to look at')
    number = sum(len(values) for values in delivered)
    embeddings = embeddings / number
    pes = [None if block.pe is None else block.pe.detach() for block in record.blocks]
    rows = None if record.table is None else record.table.detach()
    before, after, cosine = (m.view(grid).cpu().numpy() for m in maps / number)
    return Counterbalance(
        grid=grid,
        delivered=torch.cat(delivered).cpu().numpy(),
        table=torch.cat(table).cpu().numpy(),
        averaged=_correlations(embeddings[:, None], pes)[0].cpu().numpy(),
        averaged_table=_correlations(embeddings[:, None], [rows] * len(pes))[0].cpu().numpy(),
        embeddings=embeddings.cpu().numpy(),
        pes=[None if pe is None else pe.cpu().numpy() for pe in pes],
        last_norm=LastNorm(before, after, cosine, *_bias_variances(vit)),
    )


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of (B, ...) and (1 or B, ...) over all but the first dimension.

    Returns:
        (B,), in float64; NaN where either is constant.
    """
    x, y = x.double().flatten(1), y.double().flatten(1)
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    return (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1)).sqrt()


def _correlations(embeddings: Iterable[Tensor], pes: Iterable[Tensor | None]) -> Tensor:
    """(B, h*w, D) of every block and its PE -> (B, L)."""
    columns = []
    for embedding, pe in zip(embeddings, pes):
        if pe is None:
            columns.append(embedding.new_full((len(embedding),), torch.nan).double())
        else:
            columns.append(pearson(embedding, pe[None]))
    return torch.stack(columns, dim=1)


def _last_norm_maps(record: NetworkRecord) -> Tensor:
    """(3, h*w): norms before and after and cosine similarity, summed over the batch."""
    before, after = record.blocks[-1].output.double(), record.last.double()
    cosine = torch.cosine_similarity(before, after, dim=2)
    return torch.stack([before.norm(dim=2), after.norm(dim=2), cosine]).sum(1)


def _bias_variances(vit: PlainViT) -> tuple[float | None, float | None]:
    norms = vit.norm, vit.pe_delivery.last_norm
    return tuple(
        None if norm is None else norm.bias.detach().double().var(unbiased=False).item()
        for norm in norms
    )

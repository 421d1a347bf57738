"""Effective receptive field of a ViT, block by block (GAB paper)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

from ..models.backbones import PlainViT
from .gaussian_fit import GaussianFit, field_spread, fit_gaussian
from .inspection import InspectedModel, record_network
from .pe_states import pe_state, states_of

#: No fit: of a field that is zero everywhere.
NO_FIT = GaussianFit(0.0, (math.nan, math.nan), (math.nan, math.nan), math.nan)


def accumulate_fields(
    features: Callable[[Tensor], Sequence[Tensor]], batches: Iterable[Tensor]
) -> np.ndarray:
    """Accumulate the gradients of features with respect to the pixels of images.

    The gradient of each feature, averaged over the image's channels, its negative values cut,
    summed over the images, and normalized to a sum of 1 (GAB paper).

    Args:
        features: Images (B, C, H, W) -> features, each of shape (B,).
        batches: Images of one size.

    Returns:
        (features, H, W), in float64. A field that is zero everywhere stays so.

    Raises:
        UserError: If there is no image, or a feature is not finite.
    """
    fields: Tensor | float = 0.0
    for batch in batches:
        images = batch.detach().requires_grad_()
        with torch.enable_grad():
            values = features(images)
        for value in values:
            if not torch.isfinite(value).all():
                raise UserError('a feature is not finite: is the checkpoint broken?')
        gradients = [
            torch.autograd.grad(value.sum(), images, retain_graph=index < len(values) - 1)[0]
            for index, value in enumerate(values)
        ]
        fields = fields + torch.stack([g.double().mean(1).clamp(min=0).sum(0) for g in gradients])
    if isinstance(fields, float):
        raise UserError('there is no image to look at')
    totals = fields.sum((1, 2), keepdim=True)
    return (fields / totals.where(totals > 0, torch.ones_like(totals))).cpu().numpy()


def center_token(grid: tuple[int, int]) -> tuple[int, int]:
    """Return row and column of the center token of a grid (h, w).

    On an even side it is the one before the middle, so (6, 6) of 14x14, index 90: the token of
    GAB's code, of OpenERF by its authors, and of LaPE's similarity script.
    """
    return (grid[0] - 1) // 2, (grid[1] - 1) // 2


def center_features(vit: PlainViT) -> Callable[[Tensor], list[Tensor]]:
    """Make the features of the center token: of every block, and at the end.

    Of each block the channel mean of its output, before any norm; at the end that of the network's
    output. GAB's code measures the network's output: after the last norm of ``vit_*``, and before
    any norm of ``vit_relpos_*``, which average the tokens first (``final_norm=False`` here). Where
    a network with relative positions has a last norm, the field of its last block is the one to
    compare with theirs. After a LayerNorm whose weights are all equal, as before training, the
    channel mean is constant, and the field consists of rounding errors.

    Args:
        vit: The network, in evaluation mode.

    Returns:
        A function for ``accumulate_fields``, of L + 1 features.
    """

    def features(images: Tensor) -> list[Tensor]:
        record = record_network(vit, images)
        row, column = center_token(record.grid)
        center = row * record.grid[1] + column
        outputs = [block.output for block in record.blocks] + [record.last]
        return [output[:, center].mean(1) for output in outputs]

    return features


def share_outside(field: np.ndarray, patch_size: int) -> float:
    """Compute the share of a field that lies outside the center token's own patch.

    The residual stream carries a token's own patch through every block, so most fields are a spike,
    which a fitted Gaussian follows, on a wide foot, which this measures.

    Args:
        field: (H, W), of ``center_features``.
        patch_size: Side of a patch, in pixels.
    """
    grid = tuple(-(-side // patch_size) for side in field.shape)
    top, left = (place * patch_size for place in center_token(grid))
    total = field.sum()
    own = field[top : top + patch_size, left : left + patch_size].sum()
    return float(1 - own / total) if total > 0 else float('nan')


@dataclass(frozen=True)
class LearnedGaussian:
    """The Gaussian attention bias of a block.

    Attributes:
        block: Index of the block.
        amplitude: a of ``a^2 exp(...)``, of each head or of all.
        sigma: Width in patches, of each head or of all; its sign has no meaning.
    """

    block: int
    amplitude: tuple[float, ...]
    sigma: tuple[float, ...]


def learned_gaussians(vit: PlainViT) -> list[LearnedGaussian]:
    """List the Gaussian attention biases of a network."""
    return [
        LearnedGaussian(
            index,
            tuple(block.attn.bias.a.detach().tolist()),
            tuple(block.attn.bias.sigma.detach().tolist()),
        )
        for index, block in enumerate(vit.blocks)
        if block.attn.bias is not None
    ]


@dataclass(frozen=True)
class MeasuredField:
    """An effective receptive field and its Gaussian.

    Attributes:
        size: (H, W) of the images, in pixels.
        state: State of the positions, one of ``pe_states.PE_STATES``.
        place: ``block 3``, or ``end`` for the network's output.
        field: (H, W), of sum 1.
        fit: Its Gaussian, in pixels, of a quarter of a patch at least.
        outside: Share of the field outside the center token's own patch.
        spread: Root mean square distance along y and x from its center of mass, in pixels.
    """

    size: tuple[int, int]
    state: str
    place: str
    field: np.ndarray
    fit: GaussianFit
    outside: float
    spread: tuple[float, float]


def measure_fields(
    model: InspectedModel,
    images: Callable[[tuple[int, int], str], Iterable[Tensor]],
    sizes: Sequence[tuple[int, int]],
    states: Sequence[str] | None = None,
) -> Iterator[MeasuredField]:
    """Measure the receptive fields of the center token.

    Args:
        model: The model.
        images: (size, state) -> batches of images of that size.
        sizes: (H, W) in pixels.
        states: Some of ``pe_states.PE_STATES``; by default all that the network can have.

    Yields:
        For every size and state the field of every block and that of the network's output.
    """
    patch_size = model.vit.patch_embed.patch_size
    for size in sizes:
        for state in states_of(model.vit) if states is None else states:
            with pe_state(model.vit, state):
                fields = accumulate_fields(center_features(model.vit), images(size, state))
            for place, field in zip(places_of(model), fields):
                yield MeasuredField(
                    tuple(size),
                    state,
                    place,
                    field,
                    # An even patch is 0.29 of its side wide; what is narrower is a part of one.
                    fit_gaussian(field, patch_size / 4) if field.any() else NO_FIT,
                    share_outside(field, patch_size),
                    field_spread(field),
                )


def places_of(model: InspectedModel) -> list[str]:
    """Name the places of the fields of a model, in their order."""
    return [*(f'block {index}' for index in range(len(model.vit.blocks))), 'end']

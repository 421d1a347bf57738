"""Effective receptive field of a ViT, block by block (GAB paper)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from ..models.backbones import PlainViT
from .gaussian_fit import GaussianFit, field_spread, fit_gaussian
from .inspection import InspectedModel, record_network

#: No fit: of a field that is zero everywhere.
NO_FIT = GaussianFit(0.0, (math.nan, math.nan), (math.nan, math.nan), math.nan)
#: States of the PE in which fields are measured.
PE_STATES = ('as it is', 'zeroed', 're-initialized')


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

    Of each block the channel mean of its output; at the end that of the network's output, as in the
    paper. After a LayerNorm whose weights are all equal, as before training, the channel mean is
    constant, and the field consists of rounding errors.

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


@contextmanager
def pe_state(vit: PlainViT, state: str, seed: int = 0) -> Iterator[None]:
    """Replace the PE table of a network for a while.

    Args:
        vit: The network, changed in place and back.
        state: ``as it is``; ``zeroed``, which leaves the biases of the PE norms; or
            ``re-initialized``, drawn as before training, with the norms as trained.
        seed: Seed of the draw.

    Raises:
        UserError: If the state is unknown, there is no PE to change, or it is a fixed sinusoid.
    """
    if state not in PE_STATES:
        raise UserError(f'unknown state of the PE {state!r}; choose one of {", ".join(PE_STATES)}')
    if state == 'as it is':
        yield
        return
    position_embedding = vit.position_embedding
    if position_embedding is None:
        raise UserError(f'this network has no position embedding that could be {state}')
    if state == PE_STATES[2] and not isinstance(position_embedding.table, nn.Parameter):
        raise UserError(f'a fixed sinusoid was never drawn, so it cannot be {state}')
    rows = [r for r in (position_embedding.table, position_embedding.cls_row) if r is not None]
    kept = [r.detach().clone() for r in rows]
    try:
        with torch.no_grad():
            generator = torch.Generator().manual_seed(seed)
            for r in rows:
                r.zero_()
                if state == 're-initialized':
                    drawn = torch.empty(r.shape)
                    nn.init.trunc_normal_(drawn, std=0.02, generator=generator)
                    r.copy_(drawn)
        yield
    finally:
        with torch.no_grad():
            for r, before in zip(rows, kept):
                r.copy_(before)


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
        state: State of the PE, one of ``PE_STATES``.
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
    states: Sequence[str] = PE_STATES,
) -> Iterator[MeasuredField]:
    """Measure the receptive fields of the center token.

    Args:
        model: The model.
        images: (size, state) -> batches of images of that size.
        sizes: (H, W) in pixels.
        states: States of the PE, see ``states_of``.

    Yields:
        For every size and state the field of every block and that of the network's output.
    """
    patch_size = model.vit.patch_embed.patch_size
    for size in sizes:
        for state in states:
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


def states_of(model: InspectedModel, wanted: Sequence[str] = PE_STATES) -> tuple[str, ...]:
    """Return the states of the PE, of those that are wanted, that a model can have.

    A fixed sinusoid cannot be re-initialized; a network without a PE is as it is.
    """
    position_embedding = model.vit.position_embedding
    if position_embedding is None:
        return PE_STATES[:1]
    fixed = not isinstance(position_embedding.table, nn.Parameter)
    return tuple(state for state in wanted if not (fixed and state == PE_STATES[2]))


def places_of(model: InspectedModel) -> list[str]:
    """Name the places of the fields of a model, in their order."""
    return [*(f'block {index}' for index in range(len(model.vit.blocks))), 'end']

"""Receptive fields of every block of a model, for each state of the PE, at several sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from .gaussian_fit import GaussianFit, field_spread, fit_gaussian
from .inspection import InspectedModel
from .receptive_field import (
    PE_STATES,
    accumulate_fields,
    center_features,
    pe_state,
    share_outside,
)

#: No fit: of a field that is zero everywhere.
NO_FIT = GaussianFit(0.0, (math.nan, math.nan), (math.nan, math.nan), math.nan)


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

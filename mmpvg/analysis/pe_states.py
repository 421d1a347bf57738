"""States of a network's positions: as trained, without them, or with untrained ones (GAB paper)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmpvg.utils.errors import UserError, check_choice

from ..models.backbones import PlainViT
from ..models.layers import PositionEmbedding, RelativePositionMlp

AS_IT_IS = 'as it is'
ZEROED, DRAWN = 'zeroed', 're-initialized'
NO_RELATIVE, DRAWN_RELATIVE = 'relative positions dropped', 'relative positions re-initialized'
#: States in which a network can be analyzed: of the PE table, and of its relative positions.
PE_STATES = (AS_IT_IS, ZEROED, DRAWN, NO_RELATIVE, DRAWN_RELATIVE)


def states_of(vit: PlainViT, wanted: Sequence[str] = PE_STATES) -> tuple[str, ...]:
    """Return the states, of those that are wanted, that a network can have.

    The PE table needs a PE, and a learnable one to be re-initialized, which a fixed sinusoid is
    not. Relative positions need some, and the MLP to be re-initialized: ViTDet's decomposed tables
    start from zero, so that re-initialized ones would be dropped ones.
    """
    return tuple(state for state in wanted if _reason_against(vit, state) is None)


@contextmanager
def pe_state(vit: PlainViT, state: str, seed: int = 0) -> Iterator[None]:
    """Replace the PE table or the relative positions of a network for a while.

    GAB's code has these states for its fields: absolute PE zeroed, relative positions dropped,
    their MLP re-initialized with torch's default. All else stays as trained.

    Args:
        vit: The network, changed in place and back.
        state: One of ``PE_STATES``. ``zeroed`` and ``re-initialized`` are of the PE table; zeroed,
            it leaves the biases of the PE norms. ``relative positions dropped`` takes them out of
            every block, ``relative positions re-initialized`` draws their MLPs.
        seed: Seed of the draw.

    Raises:
        UserError: If the state is unknown, or the network cannot have it.
    """
    check_choice('state of the PE', state, PE_STATES)
    if reason := _reason_against(vit, state):
        raise UserError(reason)
    generator = torch.Generator().manual_seed(seed)
    attentions = [block.attn for block in vit.blocks]
    relative = [attention.rel_pos for attention in attentions]
    replaced: list[tuple[Tensor, Tensor]] = []
    if state in (ZEROED, DRAWN):
        replaced = _table(vit.position_embedding, generator if state == DRAWN else None)
    elif state == DRAWN_RELATIVE:
        replaced = [pair for module in relative for pair in _relative_mlp(module, generator)]
    kept = [values.detach().clone() for values, _ in replaced]
    try:
        with torch.no_grad():
            for values, new in replaced:
                values.copy_(new)
        if state == NO_RELATIVE:
            for attention in attentions:
                attention.rel_pos = None
        yield
    finally:
        with torch.no_grad():
            for (values, _), before in zip(replaced, kept):
                values.copy_(before)
        for attention, module in zip(attentions, relative):
            attention.rel_pos = module


def _reason_against(vit: PlainViT, state: str) -> str | None:
    """Why a network cannot be in a state; None if it can."""
    position_embedding = vit.position_embedding
    relative = [block.attn.rel_pos for block in vit.blocks if block.attn.rel_pos is not None]
    if state in (ZEROED, DRAWN) and position_embedding is None:
        return f'this network has no position embedding that could be {state}'
    if state == DRAWN and not isinstance(position_embedding.table, nn.Parameter):
        return f'a fixed sinusoid was never drawn, so it cannot be {state}'
    if state in (NO_RELATIVE, DRAWN_RELATIVE) and not relative:
        return f'this network has no relative positions: it cannot have {state}'
    if state == DRAWN_RELATIVE and not all(isinstance(m, RelativePositionMlp) for m in relative):
        return f"ViTDet's relative positions start from zero: instead of {state}, use {NO_RELATIVE}"
    return None


def _table(
    position_embedding: PositionEmbedding, generator: torch.Generator | None
) -> list[tuple[Tensor, Tensor]]:
    """The rows of a PE and new ones: drawn as before training, or zero without a generator."""
    rows = (position_embedding.table, position_embedding.cls_row)
    new = [(row, torch.zeros(row.shape)) for row in rows if row is not None]
    if generator is not None:
        for _, values in new:
            nn.init.trunc_normal_(values, std=position_embedding.std, generator=generator)
    return new


def _relative_mlp(
    module: RelativePositionMlp, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """The parameters of a relative position's MLP and new ones, by torch's default for Linear."""
    new = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = 1 / math.sqrt(layer.in_features)
            for values in (layer.weight, layer.bias):
                drawn = torch.empty(values.shape).uniform_(-bound, bound, generator=generator)
                new.append((values, drawn))
    return new

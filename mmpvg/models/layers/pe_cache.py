"""The delivered PE of grids met before, for as long as nothing it is made of changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from .pe_delivery import DeliveredPE
from .tracing import is_recording
from .windows import Grid


class PECache:
    """Keeps what the PE and its norms came to at recent grids.

    Only of passes that build no graph through them: without gradients, or with all of them frozen.
    What is kept is dropped as soon as a tensor it is made of was changed in place (as
    ``load_state_dict`` does), exchanged or moved, or any optimizer took a step. Writing through
    ``param.data`` cannot be noticed, so a network also drops it when it turns to training or
    evaluation; after such a write in between, call :meth:`clear`.

    Nothing is kept while the pass is compiled or traced, nor where the modules have forward hooks.

    Args:
        limit: Bytes kept at most. The grid that was used longest ago goes first.
    """

    def __init__(self, limit: int = 256 * 2**20) -> None:
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        """Drop everything."""
        self._kept: OrderedDict[tuple, DeliveredPE] = OrderedDict()
        self._made_of: list[tuple[Tensor, int, int]] = []
        self._bytes = 0
        self._steps = 0

    def get(
        self, grid: Grid, modules: Sequence[nn.Module], make: Callable[[Grid], DeliveredPE]
    ) -> DeliveredPE:
        """Give the delivered PE of a grid.

        Args:
            grid: (h, w), in patches.
            modules: Whose parameters and buffers, and hooks, matter.
            make: Computes it.
        """
        if is_recording() or _watched(modules):
            return make(grid)
        tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return make(grid)
        try:
            made_of = [(t, _version(t), t.data_ptr()) for t in tensors]
        except RuntimeError:
            # Those of torch.func's transforms have no memory of their own.
            return make(grid)
        if _optimizer_steps() != self._steps or not _same(made_of, self._made_of):
            self.clear()
            self._made_of, self._steps = made_of, _optimizer_steps()
        # What was made in inference mode cannot take part in training.
        key = (tuple(grid), torch.is_inference_mode_enabled())
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        delivered = make(grid)
        self._keep(key, delivered)
        return delivered

    def _keep(self, key: tuple, delivered: DeliveredPE) -> None:
        size = _bytes_of(delivered)
        if size > self.limit:
            return
        while self._bytes + size > self.limit:
            self._bytes -= _bytes_of(self._kept.popitem(last=False)[1])
        self._kept[key] = delivered
        self._bytes += size

    def __deepcopy__(self, memo: dict) -> PECache:
        """Make an empty one, for a copy of the network."""
        return PECache(self.limit)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let nothing that is kept into a pickle."""
        return PECache, (self.limit,)


@cache
def _step_counter() -> list[int]:
    """The steps of all optimizers of the process, counted from the first call on.

    Fused optimizers change their tensors without counting the tensors' versions.
    """
    counter = [0]

    def count(*args: Any) -> None:
        counter[0] += 1

    register_optimizer_step_post_hook(count)
    return counter


def _optimizer_steps() -> int:
    return _step_counter()[0]


def _watched(modules: Sequence[nn.Module]) -> bool:
    return any(
        part._forward_hooks or part._forward_pre_hooks for m in modules for part in m.modules()
    )


def _version(tensor: Tensor) -> int:
    # Tensors of inference mode cannot be changed outside it, and have none.
    return -1 if tensor.is_inference() else tensor._version


def _same(now: list[tuple[Tensor, int, int]], before: list[tuple[Tensor, int, int]]) -> bool:
    return len(now) == len(before) and all(
        one[0] is other[0] and one[1:] == other[1:] for one, other in zip(now, before)
    )


def _bytes_of(delivered: DeliveredPE) -> int:
    every = (delivered.input, *delivered.blocks, delivered.last_norm)
    return sum(pe.numel() * pe.element_size() for pe in every if pe is not None)

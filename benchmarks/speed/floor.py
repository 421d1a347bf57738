"""The least that a machine could need for a pass: its operations and its bytes over the rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from .timing import time_alternately


@dataclass(frozen=True)
class MachineRates:
    """What a machine does at best.

    Attributes:
        operations: Of a large matrix product, a second; a multiply-add is two.
        bytes: Read and written by a large copy, a second.
    """

    operations: float
    bytes: float


def measure_rates(
    device: str = 'cpu', dtype: torch.dtype = torch.float32, rounds: int = 10
) -> MachineRates:
    """Measure a machine's rates: the best of some rounds.

    Args:
        device: ``cpu`` or ``cuda``.
        dtype: Of the matrices.
        rounds: Timed calls of each.
    """
    side = 1024 if device == 'cpu' else 8192
    a, b, c = torch.randn(3, side, side, device=device).to(dtype).unbind(0)
    source, target = torch.empty(2, 2**26, device=device).unbind(0)
    operations = 2 * side**3 / _best(lambda: torch.mm(a, b, out=c), rounds)
    moved = 2 * source.numel() * source.element_size()
    return MachineRates(operations, moved / _best(lambda: target.copy_(source), rounds))


def moved_bytes(call: Callable[[], Any]) -> int:
    """Count what the operators of a call read and write, each its inputs and its outputs once.

    Views move nothing. What a fused kernel keeps to itself is not counted.

    Args:
        call: A pass; it is run without gradients.
    """
    with torch.no_grad(), _Moved() as moved:
        call()
    return moved.total


class _Moved(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        aliases = [result.alias_info for result in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in aliases)
        # Making a tensor writes nothing; what fills it is counted.
        if not view and 'empty' not in func._schema.name:
            leaves, _ = tree_flatten((args, kwargs, found))
            self.total += sum(
                leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor)
            )
        return found


def _best(call: Callable[[], object], rounds: int) -> float:
    (timing,) = time_alternately({'': call}, rounds).values()
    return min(timing.seconds)

"""Weights and optimizer states that are finite, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.runner import Runner
from torch import Tensor

# Parts of a checkpoint, with that of mmengine's EMAHook.
_PARTS = ('state_dict', 'ema_state_dict', 'optimizer')


def require_finite(runner: Runner) -> None:
    """Stop a run whose weights or optimizer state are not finite; to be called by all processes.

    Raises:
        RuntimeError: In all processes, if there is such a tensor in one; the message names it.
    """
    bad = _not_finite(_tensors_of_run(runner))
    flag = torch.tensor(int(bool(bad)))
    all_reduce(flag, 'max')
    if flag.item():
        raise RuntimeError(
            f'{first_of(bad) or "a tensor of another process"} is not finite, so nothing is saved, '
            'and --resume continues from the last checkpoint, which is finite; lower the learning '
            'rate or train in float32, with mmpvg.FiniteLossHook in custom_hooks'
        )


def not_finite_in(checkpoint: Any) -> list[str]:
    """Names of the weights and the optimizer's values in a checkpoint that are not finite."""
    if not isinstance(checkpoint, dict):
        return []
    return _not_finite(_tensors({part: checkpoint.get(part) for part in _PARTS}))


def first_of(names: Sequence[str]) -> str:
    """The first name, and how many others there are."""
    more = f' (and {len(names) - 1} more)' if len(names) > 1 else ''
    return f'{names[0]}{more}' if names else ''


def _not_finite(tensors: Iterator[tuple[str, Tensor]]) -> list[str]:
    floating = [(name, tensor) for name, tensor in tensors if tensor.is_floating_point()]
    flags = [tensor.isfinite().all() for _, tensor in floating]
    if not flags or torch.stack([flag.cpu() for flag in flags]).all():
        return []
    return [
        name
        for (name, tensor), finite in zip(floating, flags)
        if not finite and not _is_mask(tensor)
    ]


def _is_mask(tensor: Tensor) -> bool:
    """Whether a tensor is a mask that some models add to logits."""
    return bool(((tensor == 0) | (tensor == -torch.inf)).all())


def _tensors_of_run(runner: Runner) -> Iterator[tuple[str, Tensor]]:
    yield from runner.model.named_parameters()
    yield from runner.model.named_buffers()
    wrappers = getattr(runner.optim_wrapper, 'optim_wrappers', {'': runner.optim_wrapper})
    for wrapper in wrappers.values():
        for number, state in enumerate(getattr(wrapper.optimizer, 'state', {}).values()):
            yield from _tensors(state, f'optimizer.state.{number}')


def _tensors(value: Any, path: str = '') -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(part, f'{path}.{key}' if path else str(key))
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _tensors(part, f'{path}.{number}')

"""Where the time of a training iteration goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

from .timing import Timing

PARTS = (
    'data loading',
    'backbone, forward',
    'neck and heads, forward',
    'neck and heads, backward',
    'backbone, backward',
    'optimizer',
)


def split_iteration(
    cfg: Config,
    model: nn.Module,
    rounds: int,
    device: str = 'cpu',
    warmup: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Time the parts of training iterations of a config, on its own data.

    Args:
        cfg: The config. Its data are loaded by this process, a batch at a time, so that the time of
            loading over that of the rest says how many workers keep up.
        model: The config's, with a ``backbone``.
        rounds: Timed iterations.
        device: ``cpu`` or ``cuda``.
        warmup: Iterations before them.
        progress: Called after every timed iteration.

    Returns:
        By part, in the order of ``PARTS``.

    Raises:
        ValueError: If the model has no backbone.
    """
    if not isinstance(getattr(model, 'backbone', None), nn.Module):
        raise ValueError(f'{type(model).__name__} has no backbone to time')
    init_default_scope(cfg.default_scope)
    loader = Runner.build_dataloader(
        {**cfg.train_dataloader, 'num_workers': 0, 'persistent_workers': False}, seed=0
    )
    batches = chain.from_iterable(repeat(loader))
    model.to(device).train()
    optimizer = build_optim_wrapper(model, {**cfg.optim_wrapper, 'type': 'OptimWrapper'})
    marks = _Marks(device)
    handles = [
        model.backbone.register_forward_pre_hook(lambda *_: marks.set('backbone starts')),
        model.backbone.register_forward_hook(lambda _, args, outputs: marks.outputs(outputs)),
    ]
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    try:
        for number in range(-warmup, rounds):
            found = _iteration(model, optimizer, batches, marks)
            if number >= 0:
                for part in PARTS:
                    seconds[part].append(found[part])
                progress()
    finally:
        for handle in handles:
            handle.remove()
    return {part: Timing(tuple(values)) for part, values in seconds.items()}


def _iteration(model: nn.Module, optimizer: Any, batches: Any, marks: _Marks) -> dict[str, float]:
    marks.clear()
    marks.set('start')
    batch = next(batches)
    marks.set('loaded')
    data = model.data_preprocessor(batch, training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    marks.set('loss')
    loss.backward()
    marks.set('gradients')
    optimizer.step()
    optimizer.zero_grad()
    marks.set('end')
    at = marks.at
    return {
        'data loading': at['loaded'] - at['start'],
        'backbone, forward': at['backbone ends'] - at['backbone starts'],
        # With moving and normalizing the images.
        'neck and heads, forward': at['loss']
        - at['backbone ends']
        + (at['backbone starts'] - at['loaded']),
        'neck and heads, backward': at['backbone backward'] - at['loss'],
        'backbone, backward': at['gradients'] - at['backbone backward'],
        'optimizer': at['end'] - at['gradients'],
    }


class _Marks:
    """Points in time of an iteration."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.at: dict[str, float] = {}

    def clear(self) -> None:
        self.at = {}

    def set(self, name: str) -> None:
        if self.device == 'cuda':
            torch.cuda.synchronize()
        self.at[name] = time.perf_counter()

    def outputs(self, outputs: Any) -> None:
        """Mark the end of the backbone, and when the last gradient has come back to it."""
        self.set('backbone ends')
        for output in [outputs] if isinstance(outputs, Tensor) else outputs:
            output.register_hook(lambda gradient: self.set('backbone backward'))

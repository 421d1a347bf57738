"""The losses of a training's first iterations, with a given set of operators."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmpvg.engine.config.host import fit_to_host

from .swap import operators


class _Enough(Exception):
    """Ends a training."""


class _Losses(Hook):
    """Collects what a training logs as losses, for so many iterations."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.values: list[dict[str, float]] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.values.append({k: v.item() for k, v in outputs.items() if 'loss' in k})
        if len(self.values) == self.iterations:
            raise _Enough


def first_losses(cfg: Config, ext: Any, iterations: int) -> list[dict[str, float]]:
    """Train from scratch on one seed.

    Args:
        cfg: A training config; a copy is trained.
        ext: The operators, see ``swap.operators``.
        iterations: How many.

    Returns:
        Losses of each iteration, by name.
    """
    cfg = cfg.copy()
    init_default_scope(cfg.default_scope)
    cfg.randomness = dict(seed=0, deterministic=False)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    for split in ('val', 'test'):
        for part in ('dataloader', 'evaluator', 'cfg'):
            cfg[f'{split}_{part}'] = None
    # The loop and the schedule are the config's own.
    cfg.default_hooks = dict(checkpoint=None, logger=None)
    cfg.custom_hooks = []
    cfg.visualizer = None
    cfg.log_level = 'WARNING'
    fit_to_host(cfg)
    with tempfile.TemporaryDirectory() as folder, operators(ext):
        cfg.work_dir = folder
        cfg.experiment_name = Path(folder).name
        runner = Runner.from_cfg(cfg)
        losses = _Losses(iterations)
        runner.register_hook(losses, 'LOWEST')
        try:
            runner.train()
        except _Enough:
            pass
    return losses.values

"""Learning rates of a config over its training, by mmengine's own schedulers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmpvg.utils.errors import UserError


@dataclass(frozen=True)
class LearningRateCurve:
    """Learning rates of a whole training.

    Attributes:
        iterations: Sampled iterations, ascending, from 0.
        rates: For each of them, the rate of every parameter group.
        total: Iterations of the training.
        epoch_length: Iterations of an epoch; None for a training that counts none.
    """

    iterations: list[int]
    rates: list[list[float]]
    total: int
    epoch_length: int | None


def learning_rate_curve(
    cfg: Config,
    initial: Sequence[float],
    num_images: int | None = None,
    points: int = 600,
) -> LearningRateCurve:
    """Run the schedulers of a config, without a model and without data.

    Args:
        cfg: A training config whose ``auto_scale_lr.base_batch_size`` is its total batch.
        initial: Learning rates of the parameter groups before any schedule.
        num_images: Images of the training set, for a training that counts epochs.
        points: About how many iterations are kept, and as many again of the first hundredth, where
            rates warm up.

    Raises:
        UserError: If the training counts epochs and ``num_images`` is not given.
    """
    epoch_length = None
    if 'max_epochs' in cfg.train_cfg:
        if num_images is None:
            raise UserError(
                f'this training runs {cfg.train_cfg.max_epochs} epochs; pass the number of its '
                'images (--num-images), for instance 117266 for COCO train2017, whose other images '
                'hold no object'
            )
        epoch_length = -(-num_images // cfg.auto_scale_lr.base_batch_size)
        total = cfg.train_cfg.max_epochs * epoch_length
    else:
        total = cfg.train_cfg.max_iters
    groups = [dict(params=[torch.zeros(1, requires_grad=True)], lr=lr) for lr in initial]
    sgd = torch.optim.SGD(groups, lr=1.0)
    # Its own list of groups has one more, the settings of the whole.
    optimizer = OptimWrapper(sgd)
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(scheduler), default_args=dict(optimizer=optimizer, epoch_length=epoch_length)
        )
        for scheduler in cfg.param_scheduler
    ]
    early = total // 100
    kept = {*range(0, total, max(total // points, 1)), total - 1}
    kept |= set(range(0, early, max(early // points, 1)))
    iterations, rates = [], []
    for iteration in range(total):
        if iteration in kept:
            iterations.append(iteration)
            rates.append([group['lr'] for group in sgd.param_groups])
        ends_epoch = epoch_length is not None and (iteration + 1) % epoch_length == 0
        # As mmengine's ParamSchedulerHook does after an iteration and after an epoch.
        for scheduler in schedulers:
            if not scheduler.by_epoch or ends_epoch:
                scheduler.step()
    return LearningRateCurve(iterations, rates, total, epoch_length)

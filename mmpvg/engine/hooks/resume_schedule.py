"""``--resume-schedule``: the learning rates of a resumed run, from the checkpoint or the config."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmpvg.checkpoints.training_state import check_training_state
from mmpvg.engine.runner.loops import batches_done
from mmpvg.utils.errors import UserError

CHOICES = ('checkpoint', 'config')

# Of a parameter group: how a step is computed. The last is of AdamW in newer torch.
_NO_SETTINGS = {
    'params', 'param_names', 'foreach', 'fused', 'capturable', 'differentiable',
    'decoupled_weight_decay',
}  # fmt: skip
# Of a scheduler: how far it is, or what follows from its other values.
_PROGRESS = {
    '_global_step', '_last_value', 'base_values', 'best', 'cooldown_counter', 'last_step',
    'num_bad_epochs', 'total_iters', 'verbose',
}  # fmt: skip


class ResumeScheduleHook(Hook):
    """Compare the optimizer and the schedule of a resumed checkpoint with those of the config.

    mmengine takes the checkpoint's silently: with a longer schedule in the config, training
    continues at the last learning rate of the shorter one, 0.

    Args:
        choice: ``checkpoint`` keeps the hyperparameters of the optimizer and the schedule of the
            checkpoint. ``config`` takes those of the config, the schedule moved forward to the
            iteration of the checkpoint; the moments of the optimizer are the checkpoint's. With
            None the two must agree.
    """

    def __init__(self, choice: str | None = None) -> None:
        self.choice = choice

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare, and apply the choice, before anything of the checkpoint is used.

        Args:
            runner: With the optimizer and the schedulers of the config.
            checkpoint: The whole of it, changed in place for ``config``.

        Raises:
            ValueError: If the checkpoint's optimizer is of other parameters or another kind, if
                the values differ and nothing was chosen, or if the choice cannot be carried out.
        """
        wrapper = runner.optim_wrapper
        if 'optimizer' not in checkpoint or not isinstance(wrapper, OptimWrapper):
            return
        check_training_state(runner, checkpoint)
        _check_optimizer(runner, checkpoint)
        schedulers = runner.param_schedulers or []
        kept = checkpoint.get('param_schedulers') or []
        other_schedule = _other_schedule(schedulers, kept)
        differences = [
            *_group_differences(wrapper, checkpoint['optimizer']),
            *([other_schedule] if other_schedule else _schedule_differences(schedulers, kept)),
        ]
        if self.choice == 'config':
            _take_config(runner, checkpoint)
            if differences:
                runner.logger.info(
                    f'mmpvg: from the config in place of the checkpoint: {", ".join(differences)}'
                )
            return
        if differences and self.choice is None:
            raise UserError(
                f'the checkpoint and the config differ: {", ".join(differences)}; pass '
                '--resume-schedule config to take the config, its schedule moved forward to this '
                'iteration, or --resume-schedule checkpoint to keep the values of the checkpoint'
            )
        if other_schedule:
            raise UserError(
                f'--resume-schedule checkpoint needs param_scheduler of the run that wrote the '
                f'checkpoint: {other_schedule}; pass --resume-schedule config'
            )
        if differences:
            runner.logger.warning(
                f'mmpvg: the values of the checkpoint are kept: {", ".join(differences)}'
            )
        _check_not_over(runner, checkpoint, kept)


def _check_optimizer(runner: Runner, checkpoint: dict) -> None:
    """Refuse the state of another kind of optimizer."""
    optimizer = runner.optim_wrapper.optimizer
    saved = _settings(checkpoint['optimizer']['param_groups'])
    if foreign := sorted(saved - _settings(optimizer.param_groups)):
        raise UserError(
            f'the checkpoint is of another optimizer than {_name(optimizer)}: it has '
            f'{", ".join(foreign)}; resume with the config of the run that wrote it, or start a '
            'new training from its weights: --cfg-options load_from=FILE without --resume'
        )


def _settings(groups: Sequence[dict]) -> set[str]:
    keys = {key for group in groups for key in group}
    return {key for key in keys - _NO_SETTINGS if not key.startswith('initial_')}


def _group_differences(wrapper: OptimWrapper, saved: dict) -> Iterator[str]:
    """Yield each hyperparameter that differs; of several groups, that of the base, or the first."""
    pairs = list(zip(wrapper.optimizer.param_groups, saved['param_groups']))
    base, saved_base = wrapper.base_param_settings, saved.get('base_param_settings')
    if base is not None and saved_base is not None:
        pairs.insert(0, (base, saved_base))
    for key in sorted(_settings(wrapper.optimizer.param_groups)):
        for group, saved_group in pairs:
            initial = f'initial_{key}'
            if key == 'betas' and 'initial_momentum' in group:
                # Set from the momentum in each step.
                continue
            ours = group.get(initial, group.get(key))
            theirs = saved_group.get(initial, saved_group.get(key, ours))
            if not _equal(ours, theirs):
                yield f'{key} {_text(theirs)} (config: {_text(ours)})'
                break


def _other_schedule(schedulers: Sequence[Any], saved: Sequence[dict]) -> str:
    """Describe a difference in kind of the schedulers; an empty string if there is none."""
    if len(schedulers) != len(saved):
        return f'{len(saved)} schedulers (config: {len(schedulers)})'
    for number, (scheduler, state) in enumerate(zip(schedulers, saved)):
        ours = set(scheduler.state_dict()) - _PROGRESS
        if other := ours ^ (set(state) - _PROGRESS):
            return f'another scheduler than param_scheduler.{number} ({", ".join(sorted(other))})'
    return ''


def _schedule_differences(schedulers: Sequence[Any], saved: Sequence[dict]) -> Iterator[str]:
    for number, (scheduler, state) in enumerate(zip(schedulers, saved)):
        for key, ours in scheduler.state_dict().items():
            if key not in _PROGRESS and not _equal(ours, state[key]):
                yield (
                    f'param_scheduler.{number}.{key} {_text(state[key])} (config: {_text(ours)})'
                )


def _take_config(runner: Runner, checkpoint: dict) -> None:
    """Replace hyperparameters and schedule of a checkpoint by those of the config."""
    schedulers = runner.param_schedulers or []
    for scheduler in schedulers:
        if getattr(scheduler, 'need_val_args', False):
            raise UserError(
                f'--resume-schedule config cannot move {_name(scheduler)} forward, which depends '
                'on the metrics of past validations; keep its config and pass --resume-schedule '
                'checkpoint'
            )
    _move_forward(runner, schedulers, checkpoint)
    wrapper, saved = runner.optim_wrapper, checkpoint['optimizer']
    for group, saved_group in zip(wrapper.optimizer.param_groups, saved['param_groups']):
        saved_group.update({key: value for key, value in group.items() if key != 'params'})
    saved.pop('base_param_settings', None)
    if wrapper.base_param_settings is not None:
        saved['base_param_settings'] = wrapper.base_param_settings
    checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in schedulers]


def _move_forward(runner: Runner, schedulers: Sequence[Any], checkpoint: dict) -> None:
    """Step schedulers that were just built to the checkpoint; each value needs the one before."""
    done, epoch_length = checkpoint['meta']['iter'], None
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        # With another batch, as many epochs are another number of iterations.
        epoch_length, epoch = len(runner.train_dataloader), checkpoint['meta']['epoch']
        info = checkpoint['message_hub'].get('runtime_info', {})
        done = epoch * epoch_length + batches_done(info, epoch, epoch_length)
    with warnings.catch_warnings():
        # That no step of the optimizer came before.
        warnings.simplefilter('ignore', UserWarning)
        for iteration in range(1, done + 1):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
            if epoch_length and iteration % epoch_length == 0:
                for scheduler in schedulers:
                    if scheduler.by_epoch:
                        scheduler.step()


def _check_not_over(runner: Runner, checkpoint: dict, saved: Sequence[dict]) -> None:
    """Refuse to extend a training whose schedule has ended at a learning rate of 0."""
    before = checkpoint['message_hub'].get('runtime_info', {}).get('max_iters', runner.max_iters)
    ended = bool(saved) and all(state['_global_step'] >= state['end'] for state in saved)
    rates = [group['lr'] for group in checkpoint['optimizer']['param_groups']]
    if runner.max_iters > before and ended and not any(rates):
        raise UserError(
            f'training is to continue to iteration {runner.max_iters}, but the schedule of the '
            f'checkpoint has ended at {before} with a learning rate of 0; set `end` of the last '
            'param_scheduler, and pass --resume-schedule config'
        )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (float, int)):
        return math.isclose(one, other, rel_tol=1e-9)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


def _text(value: Any) -> str:
    return f'{value:.6g}' if isinstance(value, float) else str(value)


def _name(value: Any) -> str:
    return type(value).__name__

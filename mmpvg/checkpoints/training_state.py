"""Whether the training state in a checkpoint is that of the run that resumes from it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn

from mmpvg.utils.errors import UserError

# The name of a run, which all starts and restarts of one job share. Set by the launching scripts.
RUN_VARIABLE = 'MMPVG_RUN'

# What mmengine restores on resume, beside the schedulers.
_STATE_KEYS = ('state_dict', 'optimizer', 'message_hub', 'meta')

# Names of the parameters of each group of the optimizer, in ``checkpoint['meta']``.
_NAMES_KEY = 'optimizer_parameters'
# What torch's FSDP and activation checkpointing put into parameter names.
_WRAPPERS = r'_(fsdp|checkpoint)_wrapped_module\.'


def missing_state(checkpoint: dict) -> list[str]:
    """Keys of a whole training state that a checkpoint lacks."""
    missing = [key for key in _STATE_KEYS if key not in checkpoint]
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        missing += [f'meta.{key}' for key in ('epoch', 'iter') if key not in meta]
    return missing


def add_parameter_names(runner: Runner, checkpoint: dict) -> None:
    """Write the parameter names of the optimizer's groups into ``checkpoint['meta']``.

    torch keeps the state of an optimizer by position; the names let ``check_training_state`` find
    positions that belong to another parameter of the same shape.
    """
    if 'optimizer' in checkpoint and isinstance(runner.optim_wrapper, OptimWrapper):
        checkpoint['meta'][_NAMES_KEY] = _names(runner)


def check_training_state(runner: Runner, checkpoint: dict) -> None:
    """Refuse to resume from a checkpoint of another model or another optimizer.

    mmengine would load the weights that fit, and the optimizer's state by position.

    Args:
        runner: Of the training, with model and optimizer built but nothing loaded.
        checkpoint: What was read.

    Raises:
        ValueError: If a part of the training state is missing, if names or shapes of the model's
            state differ from the config's, or if the groups of the optimizer do.
    """
    if not isinstance(runner.optim_wrapper, (OptimWrapper, OptimWrapperDict)):
        # DeepSpeed and others read model and optimizer themselves.
        return
    source = runner._load_from or f'the latest checkpoint of {runner.work_dir}'
    weights_only = (
        f'to start a new training from its weights, pass --cfg-options load_from={source} in place '
        'of --resume'
    )
    if missing := missing_state(checkpoint):
        raise UserError(
            f'cannot resume from {source}: it has no {", ".join(missing)}, so training could not '
            f'continue as it was; {weights_only}'
        )
    differences = _model_differences(runner, checkpoint['state_dict'])
    if differences := differences or _optimizer_differences(runner, checkpoint):
        config = getattr(runner.cfg, 'filename', None) or 'the config'
        raise UserError(
            f'cannot resume from {source}: it is not of the model and optimizer of {config}: '
            f'{"; ".join(differences)}. Resume with the config and the --cfg-options of the run '
            f'that wrote it; {weights_only}'
        )


def _model_differences(runner: Runner, found: dict) -> list[str]:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if isinstance(runner, Runner):
        own = model.state_dict()
        optional = set()
        shapes = [
            f'{name} {tuple(found[name].shape)} in place of {tuple(value.shape)}'
            for name, value in own.items()
            if isinstance(value, torch.Tensor)
            and name in found
            and found[name].shape != value.shape
        ]
    else:
        # A model of FlexibleRunner may be sharded: its names are whole, its shapes are not.
        own = {unwrapped_name(name) for name, _ in model.named_parameters()}
        optional = {unwrapped_name(name) for name, _ in model.named_buffers()}
        shapes = []
    missing = [name for name in own if name not in found]
    unexpected = [name for name in found if name not in own and name not in optional]
    listed = {'it lacks': missing, 'it has in addition': unexpected, 'it has': shapes}
    return [f'{what} {_few(names)}' for what, names in listed.items() if names]


def _optimizer_differences(runner: Runner, checkpoint: dict) -> list[str]:
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper):
        # Several optimizers, each with groups of its own.
        return []
    found = checkpoint['optimizer']
    saved = checkpoint['meta'].get(_NAMES_KEY)
    own = _names(runner)
    sizes = [len(group) for group in own]
    if (others := [len(group['params']) for group in found['param_groups']]) != sizes:
        return [
            f'its optimizer has {sum(others)} parameters in {len(others)} groups in place of '
            f'{sum(sizes)} in {len(sizes)}'
        ]
    if saved is not None and saved != own:
        moved = [
            f'{other} in place of {name}'
            for name, other in zip(sum(own, []), sum(saved, []))
            if name != other
        ]
        return [f'its optimizer has {_few(moved)}']
    if saved is None and isinstance(runner, Runner):
        # Not of our CheckpointHook: averages of a parameter have its shape.
        parameters = [p for group in wrapper.optimizer.param_groups for p in group['params']]
        numbers = [number for group in found['param_groups'] for number in group['params']]
        wrong = [
            f'a state of shape {tuple(value.shape)} for {name} {tuple(parameter.shape)}'
            for name, parameter, number in zip(sum(own, []), parameters, numbers)
            for value in found['state'].get(number, {}).values()
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape
        ]
        return [f'its optimizer has {_few(wrong)}'] if wrong else []
    return []


def _names(runner: Runner) -> list[list[str]]:
    model: nn.Module = runner.model.module if is_model_wrapper(runner.model) else runner.model
    name_of = {id(parameter): unwrapped_name(name) for name, parameter in model.named_parameters()}
    return [
        [name_of.get(id(parameter), '?') for parameter in group['params']]
        for group in runner.optim_wrapper.optimizer.param_groups
    ]


def unwrapped_name(name: str) -> str:
    """The name that a parameter had before torch's FSDP or checkpointing wrapped its module."""
    return re.sub(_WRAPPERS, '', name)


def _few(names: Sequence[str], number: int = 3) -> str:
    more = f' and {len(names) - number} more' if len(names) > number else ''
    return ', '.join(names[:number]) + more

"""Boxes keep their places in mixed precision."""

from __future__ import annotations

from copy import copy
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmpvg.registry import HOOKS


@HOOKS.register_module()
class Float32BoxesHook(Hook):
    """Pool, decode and compare boxes in float32, whatever the maps come in.

    mmdet casts the corners of regions to the type of the maps: at 1300 pixels that is to whole
    pixels in float16, and to multiples of 8 in bfloat16, for which mmcv's RoIAlign has no kernel at
    all, nor its non-maximum suppression on a CPU. Here the maps are lifted to float32 on their way
    into the extractors, and what heads predict on its way out; all between is in mixed precision.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def before_run(self, runner: Runner) -> None:
        """Stand before every extractor of the model, and behind every head."""
        # Once, although training and its validation are runs of their own.
        self.after_run(runner)
        for module in runner.model.modules():
            # By what mmdet's extractors and heads have, since mmdet need not be there.
            if isinstance(getattr(module, 'roi_layers', None), nn.ModuleList):
                hook = module.register_forward_pre_hook(_lift_inputs, with_kwargs=True)
                self._handles.append(hook)
            elif any(hasattr(module, name) for name in ('loss_by_feat', 'loss_and_target')):
                self._handles.append(module.register_forward_hook(_lift_outputs))

    def after_run(self, runner: Runner) -> None:
        """Step aside."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _lift_inputs(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return _lifted(args), {name: _lifted(value) for name, value in kwargs.items()}


def _lift_outputs(module: nn.Module, args: tuple, output: Any) -> Any:
    return _lifted(output)


def _lifted(value: Any) -> Any:
    if isinstance(value, dict):
        # A copy, so that a defaultdict or a config's dict stays one.
        lifted = copy(value)
        lifted.update({key: _lifted(item) for key, item in value.items()})
        return lifted
    if isinstance(value, (list, tuple)):
        # A namedtuple takes its items one by one; _make takes them as any tuple does.
        return getattr(type(value), '_make', type(value))(map(_lifted, value))
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return value

"""Computes boxes in float32 in mixed precision."""

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
    """Pool, decode and compare boxes in float32, whatever the type of the maps.

    mmdet casts the corners of regions to the type of the maps: at 1300 pixels to whole pixels in
    float16, and to multiples of 8 in bfloat16, for which mmcv's RoIAlign has no kernel, nor its
    non-maximum suppression on a CPU. Here the inputs of the extractors and the outputs of the heads
    are cast to float32; the rest is in mixed precision.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def before_run(self, runner: Runner) -> None:
        """Hook every extractor and every head of the model."""
        # Once, although training and its validation are runs of their own.
        self.after_run(runner)
        for module in runner.model.modules():
            # By what mmdet's extractors and heads have, since mmdet need not be there.
            if isinstance(getattr(module, 'roi_layers', None), nn.ModuleList):
                hook = module.register_forward_pre_hook(_cast_inputs, with_kwargs=True)
                self._handles.append(hook)
            elif any(hasattr(module, name) for name in ('loss_by_feat', 'loss_and_target')):
                self._handles.append(module.register_forward_hook(_cast_outputs))

    def after_run(self, runner: Runner) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _cast_inputs(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return _cast(args), {name: _cast(value) for name, value in kwargs.items()}


def _cast_outputs(module: nn.Module, args: tuple, output: Any) -> Any:
    return _cast(output)


def _cast(value: Any) -> Any:
    if isinstance(value, dict):
        # A copy, so that a defaultdict or a config's dict stays one.
        cast = copy(value)
        cast.update({key: _cast(item) for key, item in value.items()})
        return cast
    if isinstance(value, (list, tuple)):
        # A namedtuple takes its items one by one; _make takes them as any tuple does.
        return getattr(type(value), '_make', type(value))(map(_cast, value))
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return value

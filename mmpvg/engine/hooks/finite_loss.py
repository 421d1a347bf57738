"""Skips iterations whose loss or gradient is not finite."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import wraps
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmpvg.checkpoints.finite_state import first_of
from mmpvg.registry import HOOKS
from mmpvg.utils.errors import UserError


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Skip iterations whose loss or gradient is not finite, and stop when there are too many.

    In such an iteration no process updates weights or the running statistics of norms. The log
    names the losses or the parameters, and the images. When ``limit`` of the last ``window``
    iterations were skipped, training stops with an error.

    With gradient accumulation a batch with a bad loss alone is left out, or the whole step if it is
    the last; a bad gradient costs the whole step.

    With a dynamic loss scale (mixed precision), whose scaler skips steps itself when the scale is
    too large, a step counts only if the scale falls below 1.

    Args:
        limit: Skipped iterations within the window at which training stops.
        window: Number of last iterations.

    Raises:
        ValueError: If ``limit`` is not in 1 to ``window``.
    """

    # After the hooks that change a batch, before those that log.
    priority = 'NORMAL'

    def __init__(self, limit: int = 20, window: int = 1000) -> None:
        if not 1 <= limit <= window:
            raise UserError(f'limit must be 1 to window={window}, got {limit}')
        self.limit = limit
        self.skipped: deque[int] = deque(maxlen=limit)
        self.window = window
        # What is not finite in this iteration.
        self._problem = ''
        # Files of the images whose gradients the next step takes.
        self._images: list[str] = []
        self._replaced: dict[str, Any] = {}
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Put the checks between the loss and the optimizer."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._buffers = [b for b in model.buffers() if b.is_floating_point()]
        self._kept = [torch.empty_like(buffer) for buffer in self._buffers]
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(
                f'FiniteLossHook guards one optimizer, not a {type(wrapper).__name__}; leave the '
                'hook out of custom_hooks'
            )
        update, step = wrapper.update_params, wrapper.step
        # A scheduler may have set a step of its own.
        self._replaced = {name: vars(wrapper).get(name) for name in ('update_params', 'step')}

        def update_if_finite(loss: Tensor, *args, **kwargs) -> None:
            # The mean of the gradients takes a bad image of one process to all.
            self._problem = '' if _all_agree(torch.isfinite(loss.detach()).all()) else 'the loss'
            if self._problem:
                _leave_out(wrapper)
            else:
                update(loss, *args, **kwargs)

        # Schedulers look for the mark that they left on it.
        @wraps(step)
        def step_if_finite(**kwargs) -> None:
            if _scales_dynamically(wrapper):
                before = wrapper.loss_scaler.get_scale()
                step(**kwargs)
                if wrapper.loss_scaler.get_scale() < min(before, 1.0):
                    self._problem = 'gradients, at a loss scale below 1'
            elif bad := _bad_gradients(model, wrapper):
                self._problem = bad
            else:
                step(**kwargs)

        wrapper.update_params, wrapper.step = update_if_finite, step_if_finite

    def after_train(self, runner: Runner) -> None:
        """Give the optimizer its own methods back."""
        for name, method in self._replaced.items():
            delattr(runner.optim_wrapper, name)
            if method is not None:
                setattr(runner.optim_wrapper, name, method)
        self._replaced = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the running statistics of norms, which a bad forward pass changes."""
        self._problem = ''
        if runner.optim_wrapper.should_update():
            self._images = []
        self._images += _image_names(data_batch)
        for kept, buffer in zip(self._kept, self._buffers):
            kept.copy_(buffer)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Log an iteration that was skipped, and stop when there are too many.

        Raises:
            RuntimeError: When ``limit`` of the last ``window`` iterations were skipped.
        """
        if not self._problem:
            return
        with torch.no_grad():
            for kept, buffer in zip(self._kept, self._buffers):
                buffer.copy_(kept)
        losses = [name for name, value in (outputs or {}).items() if not _is_finite(value)]
        if self._problem == 'the loss':
            findings = all_gather_object((losses, _image_names(data_batch) if losses else []))
        else:
            findings = all_gather_object(([self._problem], self._images))
        names = sorted({name for names, _ in findings for name in names})
        images = [image for _, found in findings for image in found]
        message = (
            f'iteration {runner.iter + 1} is skipped: {", ".join(names) or "the loss"} not finite, '
            f'of {", ".join(images) or "images whose names are not in the batch"}'
        )
        runner.logger.error(message)
        self.skipped.append(runner.iter)
        if len(self.skipped) == self.limit and runner.iter - self.skipped[0] < self.window:
            raise RuntimeError(
                f'{self.limit} of the last {self.window} iterations had a loss or a gradient that '
                f'is not finite. The last: {message}. Lower the learning rate, look at those '
                'images, or train in float32; --resume continues from the last checkpoint, which '
                'is finite'
            )


def _all_agree(finite: Tensor) -> bool:
    """Return whether a flag is set in all processes."""
    flag = finite.to(torch.int32)
    all_reduce(flag, 'min')
    return bool(flag.item())


def _scales_dynamically(wrapper: OptimWrapper) -> bool:
    scaler = getattr(wrapper, 'loss_scaler', None)
    # A fixed scale, which the wrapper sets again after each step, is not lowered.
    return scaler is not None and scaler.is_enabled() and wrapper._scale_update_param is None


def _bad_gradients(model: nn.Module, wrapper: OptimWrapper) -> str:
    """Name the gradients that are not finite in any process; an empty string if all are finite."""
    gradients = [
        parameter.grad
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
        if parameter.grad is not None
    ]
    if not gradients:
        gradients = [next(model.parameters()).new_zeros(1)]
    # One reduction over all. A norm may overflow where the values do not, hence the second look.
    norms = torch.stack([norm.float() for norm in torch._foreach_norm(gradients)])
    if _all_agree(norms.isfinite().all()):
        return ''
    bad = [
        name.replace('_fsdp_wrapped_module.', '')
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]
    if _all_agree(norms.new_tensor(not bad)):
        return ''
    bad = list(dict.fromkeys(name for names in all_gather_object(bad) for name in names))
    return f'gradients of {first_of(bad)}'


def _leave_out(wrapper: OptimWrapper) -> None:
    """Count an iteration without its gradients."""
    wrapper._inner_count += 1
    if wrapper.should_update():
        # What was accumulated before has not been exchanged between processes.
        wrapper.zero_grad()


def _is_finite(value: Any) -> bool:
    if not isinstance(value, (Tensor, float)):
        return True
    return bool(torch.isfinite(torch.as_tensor(value)).all())


def _image_names(batch: Any) -> list[str]:
    """Files of the images of a batch, as far as they are known."""
    samples = batch.get('data_samples', ()) if isinstance(batch, dict) else ()
    if not isinstance(samples, Sequence):
        return []
    names = (getattr(sample, 'metainfo', {}).get('img_path') for sample in samples)
    return [str(name) for name in names if name]

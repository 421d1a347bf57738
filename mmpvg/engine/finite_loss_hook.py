"""What happens when a loss is not finite."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmpvg.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Skip an iteration whose loss is not finite, name it, and stop when there are too many.

    One bad image can give a loss that is NaN or infinite; its gradients would make every weight NaN
    within a step, and all that is trained afterwards is lost. Here no process updates anything in
    such an iteration: neither weights nor the running statistics of norms. The log names the losses
    and the images. When ``limit`` of the last ``window`` iterations were skipped, training stops
    with an error; the checkpoints of before are as they were.

    With gradient accumulation the bad batch alone is left out, or the whole step if it is the last.

    Args:
        limit: Skipped iterations within the window at which training stops.
        window: Iterations that are looked back at.

    Raises:
        ValueError: If ``limit`` is not in 1 to ``window``.
    """

    # After the hooks that change a batch, before those that log.
    priority = 'NORMAL'

    def __init__(self, limit: int = 20, window: int = 1000) -> None:
        if not 1 <= limit <= window:
            raise ValueError(f'limit must be 1 to window={window}, got {limit}')
        self.limit = limit
        self.skipped: deque[int] = deque(maxlen=limit)
        self.window = window
        self._bad = False
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Stand between the loss and the optimizer."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._buffers = [b for b in model.buffers() if b.is_floating_point()]
        self._kept = [torch.empty_like(buffer) for buffer in self._buffers]
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(
                f'FiniteLossHook guards one optimizer, not a {type(wrapper).__name__}; leave the '
                'hook out of custom_hooks'
            )
        update = wrapper.update_params

        def update_if_finite(loss: Tensor, *args, **kwargs) -> None:
            finite = torch.isfinite(loss.detach()).all().to(torch.int32)
            # One process's bad image would reach all through the mean of the gradients.
            all_reduce(finite, 'min')
            self._bad = not finite.item()
            if self._bad:
                _leave_out(wrapper)
            else:
                update(loss, *args, **kwargs)

        wrapper.update_params = update_if_finite

    def after_train(self, runner: Runner) -> None:
        """Step aside."""
        runner.optim_wrapper.__dict__.pop('update_params', None)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the running statistics of norms, which a bad forward pass spoils."""
        for kept, buffer in zip(self._kept, self._buffers):
            kept.copy_(buffer)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Tell about an iteration that was skipped, and stop when there are too many.

        Raises:
            RuntimeError: When ``limit`` of the last ``window`` iterations were skipped.
        """
        if not self._bad:
            return
        with torch.no_grad():
            for kept, buffer in zip(self._kept, self._buffers):
                buffer.copy_(kept)
        losses = [name for name, value in (outputs or {}).items() if not _is_finite(value)]
        told = all_gather_object((losses, _image_names(data_batch) if losses else []))
        names = sorted({name for names, _ in told for name in names})
        images = [image for _, found in told for image in found]
        message = (
            f'iteration {runner.iter + 1} is skipped: {", ".join(names) or "the loss"} not finite, '
            f'of {", ".join(images) or "images whose names the batch does not tell"}'
        )
        runner.logger.error(message)
        self.skipped.append(runner.iter)
        if len(self.skipped) == self.limit and runner.iter - self.skipped[0] < self.window:
            raise RuntimeError(
                f'{self.limit} of the last {self.window} iterations had a loss that is not finite. '
                f'The last: {message}. Lower the learning rate, look at those images, or train in '
                'float32; --resume goes on from the last checkpoint, which is whole'
            )


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
    """Files of the images of a batch, as far as it tells them."""
    samples = batch.get('data_samples', ()) if isinstance(batch, dict) else ()
    if not isinstance(samples, Sequence):
        return []
    names = (getattr(sample, 'metainfo', {}).get('img_path') for sample in samples)
    return [str(name) for name in names if name]

"""Saves a checkpoint and exits with a code to requeue on when a scheduler sends a signal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmpvg.registry import HOOKS
from mmpvg.utils.errors import UserError
from mmpvg.utils.preemption import REQUEUE_EXIT_CODE, SIGNALS, after_training

from .checkpoint import CheckpointHook


class Preempted(SystemExit):
    """Ends a run that is to go on later."""


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save a checkpoint and exit with code 75 when a scheduler sends SIGTERM.

    Slurm, Kubernetes and others send it some seconds before they kill a job. The iteration (with
    gradient accumulation the step) is finished, ``preempted.pth`` written, and all processes exit
    together, also at a signal to one of them; ``--resume`` goes on from there. A validation is
    left at once if the checkpoint before it is there, as in our configs, and done on resume;
    otherwise the signal waits for the next training iteration.

    Args:
        signals: Names of the signals, such as ``SIGTERM`` or ``SIGUSR1``.
        exit_code: With which the processes exit.
        interval: Iterations between the exchanges of several processes about a signal.

    Raises:
        ValueError: If a signal is not known, or the interval is below 1.
    """

    # When all else of the iteration is done.
    priority = 'LOWEST'

    def __init__(
        self,
        signals: Sequence[str] = SIGNALS,
        exit_code: int = REQUEUE_EXIT_CODE,
        interval: int = 10,
    ) -> None:
        unknown = [name for name in signals if name not in signal.Signals.__members__]
        if unknown:
            raise UserError(f"signals {unknown} are not known; give names such as 'SIGTERM'")
        if interval < 1:
            raise UserError(f'interval must be 1 or more iterations, got {interval}')
        self.signals = [signal.Signals[name] for name in signals]
        self.exit_code = exit_code
        self.interval = interval
        self._signal: str | None = None
        self._ends = False
        self._before: dict[signal.Signals, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Handle the signals.

        Raises:
            TypeError: If no ``mmpvg.CheckpointHook`` writes the checkpoints of this run.
        """
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        if not hooks:
            raise TypeError(
                "PreemptionHook saves through mmpvg's CheckpointHook; set "
                "default_hooks.checkpoint.type='mmpvg.CheckpointHook'"
            )
        self._checkpoint_hook = hooks[0]
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                loader.worker_init_fn = partial(
                    _start_worker, loader.worker_init_fn, list(self.signals)
                )
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('signals reach the main thread only; pre-emption is not noticed')
            return
        self._signal, self._ends = None, False
        # A run that resumes may validate before it trains.
        self._checkpoint_hook.saved_iter = runner.iter
        self._before = {number: signal.signal(number, self._note) for number in self.signals}

    def after_train(self, runner: Runner) -> None:
        """Restore the handlers of the signals."""
        for number, handler in self._before.items():
            signal.signal(number, after_training(handler))
        self._before = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save and exit, if a process got a signal.

        Raises:
            Preempted: A ``SystemExit`` with the exit code.
        """
        self._ends = self._ends or self._all_agree(runner.iter + 1)
        if not self._ends or runner.iter + 1 == runner.max_iters:
            # After the last iteration the run ends by itself.
            return
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapper) and not wrapper.should_update():
            return
        path = self._checkpoint_hook.save_now(runner)
        # At the first exit a launcher ends the other processes, which may be writing.
        barrier()
        runner.logger.warning(
            f'{self._signal or "signal to another process"}: saved {path} at iteration '
            f'{runner.iter + 1}; --resume goes on from there'
        )
        raise Preempted(self.exit_code)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Exit, if a process got a signal and the checkpoint before this validation is there.

        Raises:
            Preempted: A ``SystemExit`` with the exit code.
        """
        if not self._before or self._checkpoint_hook.saved_iter != runner.iter:
            return
        if batch_idx >= _common_batches(runner.val_loop.dataloader):
            return
        self._ends = self._ends or self._all_agree(batch_idx + 1)
        if self._ends:
            runner.logger.warning(
                f'{self._signal or "signal to another process"} in the validation of iteration '
                f'{runner.iter}: --resume starts that validation again'
            )
            raise Preempted(self.exit_code)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name

    def _all_agree(self, iteration: int) -> bool:
        if get_world_size() == 1:
            return self._signal is not None
        if iteration % self.interval:
            return False
        signaled = torch.tensor(int(self._signal is not None))
        all_reduce(signaled, 'max')
        return bool(signaled.item())


def _common_batches(loader: DataLoader) -> int:
    """Batches that every process has, so that all can exchange something in them."""
    if get_world_size() == 1:
        return len(loader)
    if type(loader.sampler) is not DefaultSampler or not loader.batch_size:
        return 0
    return len(loader.dataset) // get_world_size() // loader.batch_size


def _start_worker(
    start: Callable[[int], None] | None, signals: Sequence[signal.Signals], worker: int
) -> None:
    """Let a worker of a data loader ignore signals, but for those of its own process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        while True:
            # A handler does not get the sender.
            if signal.sigwaitinfo(signals).si_pid == os.getppid():
                os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    if start is not None:
        start(worker)

"""Checkpoints that are there whole or not at all."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from mmpvg.checkpoints.finite_state import require_finite
from mmpvg.checkpoints.training_state import RUN_VARIABLE, add_parameter_names, check_training_state
from mmpvg.registry import HOOKS
from mmpvg.utils.whole_file import remove_parts, write_whole

# What a run that had to end leaves; one at most.
PREEMPTED_NAME = 'preempted.pth'


class WholeFileBackend(LocalBackend):
    """mmengine's local files, each of them written in one step."""

    def put(self, obj: bytes, filepath: str) -> None:
        """Write bytes; see ``mmpvg.utils.whole_file.write_whole``."""
        try:
            write_whole(filepath, obj)
        except OSError as error:
            raise OSError(
                error.errno, f'{error.strerror}; make room and go on with --resume'
            ) from error

    def put_text(self, obj: str, filepath: str, encoding: str = 'utf-8') -> None:
        """Write text, likewise."""
        write_whole(filepath, obj.encode(encoding))


register_backend('mmpvg_whole_file', WholeFileBackend, force=True)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook, made safe against a kill at any instant and against a full disk.

    mmengine writes a checkpoint into its final name and removes the oldest one before it; a run
    killed in between leaves half a file and one checkpoint less. Here a file appears in one step,
    and an older one is removed after the newer is on the disk. ``last_checkpoint`` is written in
    one step too. Weights or an optimizer state that are not finite end the run instead of being
    saved.

    Takes mmengine's arguments. Where ``backend_args`` name a store of their own, or ``out_dir`` is
    not local, that store writes as it does.

    A run resumes only from a checkpoint with the whole training state of its own model and
    optimizer, and never removes files outside its own folder, though a checkpoint of another run
    may name a best checkpoint there.
    """

    # Epoch and iteration of what is being saved.
    _place: dict | None = None
    # Iterations that the last regular checkpoint holds.
    saved_iter: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Choose the way to write, and clear what killed runs left."""
        out_dir = self.out_dir or runner.work_dir
        if self.backend_args is None and self.file_client_args is None:
            if isinstance(get_file_backend(out_dir), LocalBackend):
                self.backend_args = dict(backend='mmpvg_whole_file')
        super().before_train(runner)
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._here(self.best_ckpt_path)
        best = getattr(self, 'best_ckpt_path_dict', {})
        best.update({key: self._here(path) for key, path in best.items() if path})
        if is_main_process() and isinstance(self.file_backend, WholeFileBackend):
            for part in remove_parts(self.out_dir):
                runner.logger.info(f'removed {part}, left half-written by a run that was killed')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Let a checkpoint tell its own place.

        mmengine's FlexibleRunner tells the next one of what is saved after a validation or amid an
        epoch, and a resume would leave that out.
        """
        checkpoint['meta'].update(self._place or {})
        if RUN_VARIABLE in os.environ:
            checkpoint['meta']['run'] = os.environ[RUN_VARIABLE]
        add_parameter_names(runner, checkpoint)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check what a run resumes from.

        Raises:
            ValueError: See ``mmpvg.checkpoints.training_state.check_training_state``.
        """
        if runner._resume:
            check_training_state(runner, checkpoint)

    def _here(self, path: str) -> str | None:
        """The file of this name in the run's own folder, which may have been moved or copied."""
        own = self.file_backend.join_path(self.out_dir, osp.basename(path))
        return own if self.file_backend.exists(own) else None

    @contextmanager
    def _at(self, place: dict) -> Iterator[None]:
        outer = self._place
        self._place = outer or {key: place[key] for key in ('epoch', 'iter')}
        try:
            yield
        finally:
            self._place = outer

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        require_finite(runner)
        with self._at(meta):
            self._save_step(runner, step, meta)
        self.saved_iter = meta['iter']

    def _save_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not isinstance(self.file_backend, WholeFileBackend):
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        dropped = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                dropped.append(self.keep_ckpt_ids.popleft())
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self._write(runner, self.filename_tmpl.format(step), meta)
        if is_main_process():
            for name in [*map(self.filename_tmpl.format, dropped), PREEMPTED_NAME]:
                self._remove(osp.join(self.out_dir, name))

    def save_now(self, runner: Runner) -> str:
        """Save the iteration that is ending as ``preempted.pth``.

        To be called in ``after_train_iter`` by all processes. The next regular checkpoint takes its
        place.

        Returns:
            Where it is, and where ``--resume`` goes on.
        """
        require_finite(runner)
        place = dict(epoch=runner.epoch, iter=runner.iter + 1)
        with self._at(place):
            self._write(runner, PREEMPTED_NAME, place)
        return self.last_ckpt

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        self.last_ckpt = osp.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_whole(osp.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        require_finite(runner)
        place = dict(epoch=runner.epoch, iter=runner.iter)
        with self._at(place), self._removals_afterwards():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removals_afterwards(self) -> Iterator[None]:
        """Put off what mmengine removes until what it saves is there; keep it if that fails."""
        backend = self.file_backend
        if not isinstance(backend, WholeFileBackend):
            yield
            return
        waiting = _LaterRemoval()
        self.file_backend = waiting
        try:
            yield
        finally:
            self.file_backend = backend
        best = getattr(self, 'best_ckpt_path_dict', None) or {'': self.best_ckpt_path}
        for path in waiting.paths:
            # A step validated again has the same name.
            if path not in best.values():
                self._remove(path)

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            # Of engines that save a folder.
            self.file_backend.rmtree(path)


class _LaterRemoval(WholeFileBackend):
    """Remembers what shall be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def remove(self, filepath: str) -> None:
        self.paths.append(filepath)

    rmtree = remove

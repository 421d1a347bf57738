"""Checkpoints that are written in one step, whole or not at all."""

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

# Of a run that ended at a signal; one at most.
PREEMPTED_NAME = 'preempted.pth'


class WholeFileBackend(LocalBackend):
    """mmengine's local files, each written in one step."""

    def put(self, obj: bytes, filepath: str) -> None:
        """Write the bytes of a checkpoint; see ``mmpvg.utils.whole_file.write_whole``."""
        with resume_hint():
            write_whole(filepath, obj)

    def put_text(self, obj: str, filepath: str, encoding: str = 'utf-8') -> None:
        """Write text; see ``mmpvg.utils.whole_file.write_whole``."""
        write_whole(filepath, obj.encode(encoding))


@contextmanager
def resume_hint() -> Iterator[None]:
    """Add to the error of a checkpoint that cannot be written how the run goes on."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno, f'{error.strerror}; make room and go on with --resume'
        ) from error


register_backend('mmpvg_whole_file', WholeFileBackend, force=True)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook, made safe against a kill at any instant and against a full disk.

    A local file appears in one step, and an older one is removed after the newer is on the disk.
    Weights or an optimizer state that are not finite end the run instead of being saved. A run
    resumes only from a checkpoint with the whole training state of its own model and optimizer,
    and removes no file outside its own folder. Takes mmengine's arguments.
    """

    # Epoch and iteration of what is being saved.
    _place: dict | None = None
    # Iterations that the last regular checkpoint holds.
    saved_iter: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Choose the backend, and remove the half-written files of killed runs."""
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
        """Note the epoch and iteration of a checkpoint in it.

        mmengine's FlexibleRunner notes the next one in what is saved after a validation or within
        an epoch, and a resume would leave that out.
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
        """Save the iteration that is ending as ``preempted.pth``, and return its path.

        To be called in ``after_train_iter`` by all processes. The next regular checkpoint replaces
        the file.
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
        """Delay mmengine's removals until what it saves is there; keep the files if that fails."""
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
    """Collects the files that are to be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def remove(self, filepath: str) -> None:
        self.paths.append(filepath)

    rmtree = remove

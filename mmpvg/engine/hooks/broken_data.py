"""Replaces broken images in training."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmpvg.datasets.broken_samples import REPLACED, NameBroken, ReplaceBroken
from mmpvg.engine.runner.batches import BatchLoader
from mmpvg.registry import HOOKS
from mmpvg.utils.errors import UserError


@HOOKS.register_module()
class BrokenDataHook(Hook):
    """Train on another image where one, or its annotation, cannot be loaded, and log the file.

    After ``limit`` files of a process training stops. It stops at once at a label outside the
    classes, and when ten images in a row cannot be loaded. Validation and testing stop at the first
    broken file.

    Args:
        limit: Broken files of a process at which training stops; 0 stops at the first.

    Raises:
        ValueError: If the limit is negative.
    """

    def __init__(self, limit: int = 100) -> None:
        if limit < 0:
            raise UserError(f'limit must be 0 or more files, got {limit}')
        self.limit = limit
        self.broken: dict[str, str] = {}

    def before_train(self, runner: Runner) -> None:
        """Replace broken training images."""
        dataset = runner.train_dataloader.dataset
        BatchLoader.of(dataset).load_one = ReplaceBroken(dataset)

    def before_val(self, runner: Runner) -> None:
        """Name the file in errors of the validation data."""
        dataset = runner.val_dataloader.dataset
        BatchLoader.of(dataset).load_one = NameBroken(dataset, 'val')

    def before_test(self, runner: Runner) -> None:
        """Name the file in errors of the test data."""
        dataset = runner.test_dataloader.dataset
        BatchLoader.of(dataset).load_one = NameBroken(dataset, 'test')

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Log and count what was replaced in this batch.

        Raises:
            RuntimeError: After more than ``limit`` files.
        """
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        for sample in samples or ():
            for path, why in sample.metainfo.get(REPLACED, ()):
                if path not in self.broken:
                    self.broken[path] = why
                    # Other processes than the first log errors only.
                    runner.logger.error(
                        f'{path} is left out, another image is taken ({why}); that makes '
                        f'{len(self.broken)} of at most {self.limit}'
                    )
        if len(self.broken) > self.limit:
            raise RuntimeError(
                f'{len(self.broken)} files of the training data are broken, at most {self.limit} '
                'are left out (BrokenDataHook.limit); tools/misc/check_dataset.py lists them all'
            )

    def after_train(self, runner: Runner) -> None:
        """Log how many there were."""
        if self.broken:
            runner.logger.error(f'{len(self.broken)} broken files were left out: see above')

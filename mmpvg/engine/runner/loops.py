"""mmengine's training loops, reproducible and resumed exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmpvg.registry import LOOPS

from .batches import BatchLoader, draw_for_iteration

# Epoch, batches done of it, batches that it has: in the message hub, which checkpoints keep.
_PLACE = 'mmpvg_place'
# Epoch and iteration of the last validation that is part of the training state, in the hub too.
_VALIDATED = 'mmpvg_validated'


class _Reproducible:
    """Seeds batches and random numbers of the model by their place, for both loops."""

    def _build(self, runner: Any, dataloader: dict, endless: bool) -> DataLoader:
        """Build the training data with ``ReproducibleBatchSampler``.

        Raises:
            TypeError: If ``dataloader`` is no config.
        """
        if not isinstance(dataloader, dict):
            raise TypeError(
                f'mmpvg.{type(self).__name__} needs the config of the training data loader, not a '
                f'{type(dataloader).__name__}; give a dict, or use mmengine.{type(self).__name__}'
            )
        self._config = {**dataloader}
        self._config['batch_sampler'] = dict(
            type='mmpvg.ReproducibleBatchSampler',
            batch_sampler=self._config.get('batch_sampler'),
            drop_last=self._config.pop('drop_last', False),
            endless=endless,
        )
        built = self._build_with_seed(runner)
        BatchLoader.of(built.dataset)
        return built

    def _build_with_seed(self, runner: Any) -> DataLoader:
        self._seed = runner.seed
        # FlexibleRunner's knows less: no num_batch_per_epoch.
        builder = runner if isinstance(runner, Runner) else Runner
        return builder.build_dataloader(
            self._config,
            seed=runner.seed,
            diff_rank_seed=runner._randomness_cfg.get('diff_rank_seed', False),
        )

    def _start(self) -> None:
        """Use the seed of the run that is resumed, and do the validation that it missed.

        A checkpoint is written before the validation of its epoch or iteration, so a run killed
        between the two validates first.
        """
        if self.runner.seed != self._seed:
            # mmengine reads the seed of the run that is resumed after it built the loop.
            self._config['dataset'] = self.dataloader.dataset
            self.dataloader = self._build_with_seed(self.runner)
        self.runner.call_hook('before_train')
        if self._iter and self._validation_is_due():
            done = self.runner.message_hub.runtime_info.get(_VALIDATED, ())
            if list(done) != [self._epoch, self._iter]:
                self.runner.logger.info(
                    f'validating first: the checkpoint of epoch {self._epoch}, iteration '
                    f'{self._iter} was written before its validation'
                )
                self._validate()

    def _validation_is_due(self) -> bool:
        """Return whether a validation follows the epoch or iteration that has ended."""
        if self.runner.val_loop is None:
            return False
        self._decide_current_val_interval()
        done, last = self._progress()
        return done >= self.val_begin and (done % self.val_interval == 0 or done == last)

    def _validate(self) -> None:
        # The checkpoint of a new best metric, written in the validation, includes it.
        self.runner.message_hub.update_info(_VALIDATED, [self._epoch, self._iter])
        self.runner.val_loop.run()

    def run_iter(self, *args: Any, **kwargs: Any) -> None:
        """Train on a batch; drop path, dropout and samplers of boxes are seeded by its place."""
        draw_for_iteration(self._seed, self.iter)
        super().run_iter(*args, **kwargs)


@LOOPS.register_module()
class EpochBasedTrainLoop(_Reproducible, MMEngineEpochBasedTrainLoop):
    """mmengine's loop of epochs, reproducible and resumed where it stopped, within an epoch too.

    All that is drawn at random depends on the seed, the process and the place in the training
    alone, so an interrupted run ends with the weights of one that was not, with any number of
    workers.

    Args:
        runner: Of the training.
        dataloader: Config of the training data.
        **kwargs: mmengine's: ``max_epochs``, ``val_begin``, ``val_interval``,
            ``dynamic_intervals``.

    Raises:
        TypeError: If the data loader is no config.
    """

    def __init__(self, runner: Any, dataloader: dict, **kwargs: Any) -> None:
        super().__init__(runner, self._build(runner, dataloader, endless=False), **kwargs)

    def run(self) -> nn.Module:
        """Train as mmengine's loop does, after a validation that a killed run missed."""
        self._start()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            if self._validation_is_due():
                self._validate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def _progress(self) -> tuple[int, int]:
        return self._epoch, self._max_epochs

    def _validation_is_due(self) -> bool:
        # Within an epoch the number is still that of the one before, which was validated.
        info = self.runner.message_hub.runtime_info
        within = batches_done(info, self._epoch, len(self.dataloader)) > 0
        return not within and super()._validation_is_due()

    def run_epoch(self) -> None:
        """Train for an epoch, or for what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        number = len(self.dataloader)
        done = batches_done(self.runner.message_hub.runtime_info, self._epoch, number)
        self.dataloader.batch_sampler.go_to(self._seed, self._epoch, done)
        for index, batch in enumerate(self.dataloader, start=done):
            # With this iteration, as a checkpoint of it will say.
            self.runner.message_hub.update_info(_PLACE, [self._epoch, index + 1, number])
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def batches_done(info: dict, epoch: int, length: int) -> int:
    """Count the batches of an epoch that an earlier run has done.

    Args:
        info: ``runtime_info`` of the message hub, or of the one in a checkpoint.
        epoch: The epoch that is trained, from 0 on.
        length: Batches of it. If the earlier run had another number, because of its batch size or
            number of processes, the same share is done.
    """
    of_epoch, done, number = info.get(_PLACE) or (-1, 0, 1)
    return done * length // number if of_epoch == epoch else 0


@LOOPS.register_module()
class IterBasedTrainLoop(_Reproducible, MMEngineIterBasedTrainLoop):
    """mmengine's loop of iterations, reproducible as ``EpochBasedTrainLoop``.

    A resume loads nothing of what has been seen, and an epoch of the sampler starts without a
    restart of the workers.

    Args:
        runner: Of the training.
        dataloader: Config of the training data.
        **kwargs: mmengine's: ``max_iters``, ``val_begin``, ``val_interval``,
            ``dynamic_intervals``.

    Raises:
        TypeError: If the data loader is no config.
    """

    def __init__(self, runner: Any, dataloader: dict, **kwargs: Any) -> None:
        # Nothing that has been seen is loaded here.
        kwargs.pop('fast_forward_on_resume', None)
        built = self._build(runner, dataloader, endless=True)
        super().__init__(runner, _NotStarted(built.dataset), **kwargs)
        self.dataloader = built

    def run(self) -> nn.Module:
        """Train as mmengine's loop does, after a validation that a killed run missed."""
        self._start()
        self.runner.call_hook('before_train_epoch')
        self.dataloader.batch_sampler.go_to(self._seed, number=self._iter)
        batches = None
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            if batches is None:
                batches = iter(self.dataloader)
            self.run_iter(next(batches))
            if self._validation_is_due():
                self._validate()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def _progress(self) -> tuple[int, int]:
        return self._iter, self._max_iters


class _NotStarted:
    """Data for mmengine 0.10.7, which starts to load before it may resume."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator:
        return iter(())

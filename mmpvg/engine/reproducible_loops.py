"""mmengine's training loops, which a kill and ``--resume`` do not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.runner import EpochBasedTrainLoop as MMEngineEpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as MMEngineIterBasedTrainLoop
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mmpvg.datasets.reproducible_batches import BatchLoader, draw_for_iteration
from mmpvg.registry import LOOPS

# Epoch, batches done of it, batches that it has: in the message hub, which checkpoints keep.
_PLACE = 'mmpvg_place'


class _Reproducible:
    """What both loops do: batches by their place, and random numbers of the model by theirs."""

    def _build(self, runner: Any, dataloader: dict, endless: bool) -> DataLoader:
        """The training data with :class:`ReproducibleBatchSampler` around its batches.

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

    def run(self) -> nn.Module:
        """Train."""
        if self.runner.seed != self._seed:
            # The seed of the run that is resumed, which mmengine reads after it built the loop.
            self._config['dataset'] = self.dataloader.dataset
            self.dataloader = self._build_with_seed(self.runner)
        return super().run()

    def run_iter(self, *args: Any, **kwargs: Any) -> None:
        """Train on a batch; drop path, dropout and samplers of boxes draw by its place."""
        draw_for_iteration(self._seed, self.iter)
        super().run_iter(*args, **kwargs)


@LOOPS.register_module()
class EpochBasedTrainLoop(_Reproducible, MMEngineEpochBasedTrainLoop):
    """mmengine's loop of epochs, reproducible and resumed where it stopped, amid an epoch too.

    All that is drawn at random in training depends on the seed, the process and the place in the
    training alone. So a run that was interrupted ends with the weights of one that was not, and the
    number of workers of the data loader changes nothing. mmengine starts its workers anew on
    resume, and an epoch at its beginning.

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
    """Count the batches of an epoch that a run before this one has done.

    Args:
        info: ``runtime_info`` of the message hub, or of the one in a checkpoint.
        epoch: The epoch that is trained, from 0 on.
        length: Batches of it. If the run before had another number of them, because of its batch
            size or number of processes, the same share is done.

    Returns:
        The number; 0 if the run ended between two epochs.
    """
    of_epoch, done, number = info.get(_PLACE) or (-1, 0, 1)
    return done * length // number if of_epoch == epoch else 0


@LOOPS.register_module()
class IterBasedTrainLoop(_Reproducible, MMEngineIterBasedTrainLoop):
    """mmengine's loop of iterations, reproducible and resumed without loading what has been seen.

    As :class:`EpochBasedTrainLoop`. A sampler that ends starts its next epoch without mmengine's
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
        # It saves the time of loading what has been seen, which is not spent here.
        kwargs.pop('fast_forward_on_resume', None)
        built = self._build(runner, dataloader, endless=True)
        super().__init__(runner, _NotStarted(built.dataset), **kwargs)
        self.dataloader = built

    def run(self) -> nn.Module:
        """Train."""
        self.dataloader_iterator = _Batches(self)
        return super().run()


class _NotStarted:
    """For mmengine 0.10.7, which starts to load when it builds the loop, before it may resume."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator:
        return iter(())


class _Batches:
    """The batches of a loop from its iteration on."""

    def __init__(self, loop: IterBasedTrainLoop) -> None:
        self.loop = loop
        self.batches = None
        # mmengine asks for what it has seen, to throw it away.
        self.to_skip = loop.iter

    def skip_iter(self, number: int) -> None:
        """What onedl-mmengine calls instead."""
        self.to_skip -= number

    def __next__(self) -> Any:
        if self.to_skip:
            self.to_skip -= 1
            return None
        if self.batches is None:
            self.loop.dataloader.batch_sampler.go_to(self.loop._seed, number=self.loop.iter)
            self.batches = iter(self.loop.dataloader)
        return next(self.batches)

"""Training batches that depend on the seed and their place in the training alone.

Each batch carries a seed made of the run's seed, the process, the epoch and its number, from which
augmentation draws, whatever the number of workers, and after a resume too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch.utils.data import BatchSampler, Dataset, Sampler

from mmpvg.registry import DATA_SAMPLERS
from mmpvg.utils.errors import UserError


class SeededBatch(list):
    """Indices of a batch, with the ``seed`` of what is drawn while it is loaded."""

    seed: int


# Third in a place of random numbers, after the run's seed and the process.
_OF_DATA, _OF_THE_MODEL = 0, 1


def seed_at(*place: int) -> int:
    """Make a seed of 32 bits from numbers of at least 0, the run's seed first."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])


def draw_for_iteration(seed: int, iteration: int) -> None:
    """Seed what a model draws in an iteration by the run's seed, the process and the iteration."""
    _draw_from(seed_at(seed, get_rank(), _OF_THE_MODEL, iteration))


def _draw_from(seed: int) -> None:
    """Set the generators of Python, NumPy and torch, on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@DATA_SAMPLERS.register_module()
class ReproducibleBatchSampler(Sampler):
    """Yields batches with a seed each, from any place in a training on.

    Args:
        sampler: Gives the indices of this process.
        batch_size: Images per batch.
        batch_sampler: Config of what makes batches of indices; None for ``batch_size`` at a time.
        drop_last: Leave out a last batch that is not full; without a ``batch_sampler``.
        endless: Go on with the next epoch when one ends, for iteration-based training.
    """

    def __init__(
        self,
        sampler: Sampler,
        batch_size: int,
        batch_sampler: dict | None = None,
        drop_last: bool = False,
        endless: bool = False,
    ) -> None:
        if batch_sampler is None:
            self.batches = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batches = DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        # mmengine's DistSamplerSeedHook reads both.
        self.sampler = sampler
        self.batch_size = batch_size
        self.endless = endless
        self.go_to(seed=0)

    def go_to(self, seed: int, epoch: int = 0, number: int = 0) -> None:
        """Set the place from which the next iteration starts.

        Args:
            seed: The run's seed.
            epoch: The epoch, from 0 on.
            number: Batches to leave out; of this epoch, or, if endless, of all.
        """
        self.place = seed, epoch, number

    def __iter__(self) -> Iterator[SeededBatch]:
        # Only indices are made of what is left out; nothing is loaded.
        seed, epoch, number = self.place
        every = self._endless(seed, epoch) if self.endless else self._epoch(seed, epoch)
        return islice(every, number, None)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self.batches)

    def _endless(self, seed: int, first: int) -> Iterator[SeededBatch]:
        for epoch in count(first):
            nothing = True
            for batch in self._epoch(seed, epoch):
                nothing = False
                yield batch
            if nothing:
                raise UserError(
                    'the training data set gives no batch to this process; it needs at least '
                    f'batch_size={self.batch_size} images where the last batch is dropped'
                )

    def _epoch(self, seed: int, epoch: int) -> Iterator[SeededBatch]:
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)
        for number, indices in enumerate(self.batches):
            batch = SeededBatch(indices)
            batch.seed = seed_at(seed, get_rank(), _OF_DATA, epoch, number)
            yield batch


class BatchLoader:
    """Loads the batches of a data set: its ``__getitems__``, which torch's data loader calls.

    Attributes:
        load_one: Loads the sample of an index; None for the data set's own way.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.load_one: Callable[[int], Any] | None = None
        self._load_many = getattr(dataset, '__getitems__', None)

    @classmethod
    def of(cls, dataset: Dataset) -> BatchLoader:
        """Return the loader of a data set, which gets one if it has none."""
        loader = getattr(dataset, '__getitems__', None)
        if not isinstance(loader, cls):
            loader = dataset.__getitems__ = cls(dataset)
        return loader

    def __call__(self, indices: Sequence[int]) -> list:
        """Load a batch; the seed of a ``SeededBatch`` is set before."""
        if isinstance(indices, SeededBatch):
            _draw_from(indices.seed)
        if self.load_one is None and self._load_many is not None:
            return self._load_many(indices)
        load_one = self.load_one or self.dataset.__getitem__
        return [load_one(index) for index in indices]

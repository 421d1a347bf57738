"""Training batches that depend on the seed and their place in the training, and on nothing else.

A data loader's workers draw the random numbers of augmentation as they go: which image is flipped
depends on how many workers there are and on what each has loaded before, and a run that is resumed
starts them anew. Here each batch carries a seed made of the run's seed, the process, the epoch and
its number, and whoever loads it draws from that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch.utils.data import BatchSampler, Dataset, Sampler

from mmpvg.registry import DATA_SAMPLERS


class SeededBatch(list):
    """The indices of a batch, and the ``seed`` of what is drawn while it is loaded."""

    seed: int


# Third in a place of random numbers, after the run's seed and the process.
_OF_DATA, _OF_THE_MODEL = 0, 1


def seed_at(*place: int) -> int:
    """A seed of 32 bits for a place, unrelated to those of its neighbours.

    Args:
        place: Numbers of at least 0 that name the place, the run's seed first.
    """
    return int(np.random.SeedSequence(place).generate_state(1)[0])


def draw_for_iteration(seed: int, iteration: int) -> None:
    """Let what a model draws in an iteration depend on that, the run's seed and the process."""
    _draw_from(seed_at(seed, get_rank(), _OF_THE_MODEL, iteration))


def _draw_from(seed: int) -> None:
    """Set the generators of Python, NumPy and torch, on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@DATA_SAMPLERS.register_module()
class ReproducibleBatchSampler(Sampler):
    """Any batches, each with a seed, from any place on.

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
        # Where mmengine's DistSamplerSeedHook, and whoever has a batch sampler, look.
        self.sampler = sampler
        self.batch_size = batch_size
        self.endless = endless
        self.go_to(seed=0)

    def go_to(self, seed: int, epoch: int = 0, number: int = 0) -> None:
        """Choose the place from which the next iteration starts.

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
                raise ValueError(
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


def load_with_seeds(dataset: Dataset) -> None:
    """Let a data set draw from the seed of each :class:`SeededBatch` that it loads.

    Args:
        dataset: Of any class. It gets torch's ``__getitems__``, which loads a batch; all else of
            it, its pipeline too, stays where it is.
    """
    dataset.__getitems__ = partial(_load_batch, dataset, getattr(dataset, '__getitems__', None))


def _load_batch(dataset: Dataset, load: Any, indices: Sequence[int]) -> list:
    if isinstance(indices, SeededBatch):
        _draw_from(indices.seed)
    return load(indices) if load is not None else [dataset[index] for index in indices]

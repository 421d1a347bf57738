"""Finds the data sets inside RepeatDataset, ConcatDataset and other wrappers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmengine.config import ConfigDict
from torch.utils.data import Dataset


def innermost_config(loader: ConfigDict) -> ConfigDict:
    """Return the config of a dataloader's data set, inside its wrappers of a single one."""
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def first_config(loader: Mapping | None) -> Mapping:
    """Return the config of a dataloader's data set, of several the first; empty without one."""
    dataset = loader or {}
    while inner := dataset.get('dataset') or dataset.get('datasets'):
        dataset = inner[0] if isinstance(inner, (list, tuple)) else inner
    return dataset


def unwrapped(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the data sets inside a data set's wrappers, or the data set itself."""
    if hasattr(dataset, 'dataset'):
        yield from unwrapped(dataset.dataset)
    elif hasattr(dataset, 'datasets'):
        for each in dataset.datasets:
            yield from unwrapped(each)
    else:
        yield dataset

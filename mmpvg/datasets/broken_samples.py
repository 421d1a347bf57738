"""Replaces broken samples in training, and names them in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from mmpvg.utils.errors import UserError

# In a sample's metainfo: files that it replaces, with what is wrong with each.
REPLACED = 'replaced_files'

# mmseg's label of pixels without a class.
_IGNORED = 255


class LabelRangeError(UserError):
    """A label that the model has no output for: the classes of data and config do not fit."""


class ReplaceBroken:
    """Loads a sample of a data set, or, where that fails, another one drawn at random.

    Args:
        dataset: Of any class.
        patience: Failures in a row after which the data as a whole is taken to be broken.
    """

    def __init__(self, dataset: Dataset, patience: int = 10) -> None:
        self.dataset = dataset
        self.patience = patience

    def __call__(self, index: int) -> Any:
        """Load a sample, and note in its metainfo the files that it replaces.

        Raises:
            LabelRangeError: If a label is outside the classes.
            RuntimeError: If ``patience`` samples in a row fail.
        """
        replaced: list[tuple[str, str]] = []
        while True:
            try:
                sample = self.dataset[index]
                break
            except Exception as error:  # whatever a pipeline makes of broken data
                replaced.append((_name(self.dataset, index), f'{type(error).__name__}: {error}'))
                if len(replaced) == self.patience:
                    raise RuntimeError(
                        f'{self.patience} samples in a row cannot be loaded; the last was '
                        f'{": ".join(replaced[-1])}'
                    ) from error
                # From the seed of the batch, so that a resumed run draws the same.
                index = int(np.random.randint(len(self.dataset)))
        check_sample(sample, (getattr(self.dataset, 'metainfo', None) or {}).get('classes'))
        if replaced:
            sample['data_samples'].set_metainfo({REPLACED: replaced})
        return sample


class NameBroken:
    """Loads a sample of a data set, and names the file in its errors.

    Args:
        dataset: Of any class.
        split: ``val`` or ``test``.
    """

    def __init__(self, dataset: Dataset, split: str) -> None:
        self.dataset, self.split = dataset, split

    def __call__(self, index: int) -> Any:
        """Load a sample.

        Raises:
            RuntimeError: If that fails.
        """
        try:
            return self.dataset[index]
        except Exception as error:  # whatever a pipeline makes of broken data
            raise RuntimeError(
                f'{_name(self.dataset, index)} cannot be evaluated on '
                f'({type(error).__name__}: {error}), and no other image can take its place; repair '
                f'or remove it (tools/misc/check_dataset.py --split {self.split} lists all such '
                f'files), then {"go on with --resume" if self.split == "val" else "test again"}'
            ) from error


def check_sample(sample: dict, classes: Sequence | None) -> None:
    """Check the labels of a packed sample, before a kernel on a GPU fails at them.

    Args:
        sample: With ``data_samples`` of mmdet, mmseg or mmpretrain.
        classes: Of the data set; None to check nothing.

    Raises:
        LabelRangeError: If a label is outside ``0`` to ``len(classes) - 1``.
    """
    data = sample.get('data_samples') if isinstance(sample, dict) else None
    if classes is None or data is None:
        return
    for labels in (
        getattr(data.get('gt_sem_seg'), 'data', None),
        getattr(data.get('gt_instances'), 'labels', None),
        data.get('gt_label'),
    ):
        if isinstance(labels, Tensor):
            check_labels(labels.numpy(), classes, data.metainfo.get('img_path'))


def check_labels(labels: np.ndarray, classes: Sequence, path: str | None) -> None:
    """Check labels of pixels (two dimensions or more, 255 is ignored), boxes or images.

    Args:
        labels: Any shape.
        classes: Of the data set.
        path: The image, for the message.

    Raises:
        LabelRangeError: If a label is outside ``0`` to ``len(classes) - 1``.
    """
    wrong = labels_outside(labels, len(classes))
    if wrong:
        raise LabelRangeError(f'{path} has {wrong}')


def labels_outside(labels: np.ndarray, num_classes: int) -> str:
    """Describe the labels outside the classes, with the fix; '' if there are none."""
    outside = (labels >= num_classes) | (labels < 0)
    if labels.ndim > 1:
        outside &= labels != _IGNORED
    if not outside.any():
        return ''
    found = np.unique(labels[outside])[:10].tolist()
    return (
        f'the labels {found}, but there {describe_classes(num_classes)}; give the classes of the '
        'data (metainfo), or set reduce_zero_label if 0 is no class there'
    )


def describe_classes(number: int) -> str:
    """Make ``are 5 classes, labeled 0 to 4``."""
    return (
        f'are {number} classes, labeled 0 to {number - 1}'
        if number > 1
        else ('is 1 class, labeled 0')
    )


def _name(dataset: Dataset, index: int) -> str:
    try:
        return str(dataset.get_data_info(index)['img_path'])
    except Exception:  # of data sets that are built otherwise
        return f'sample {index}'

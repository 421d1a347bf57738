"""Checks that heads and data agree on the classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmpvg.datasets.checks.classes import check_names
from mmpvg.datasets.unwrap import unwrapped
from mmpvg.registry import HOOKS
from mmpvg.utils.errors import UserError

_HEADS = re.compile(r'((.*\.)?(bbox|mask|decode|auxiliary)_)?head(\.\d+)?')


@HOOKS.register_module()
class ClassCountCheckHook(Hook):
    """Stop before the first iteration if the classes of heads, config and data do not fit.

    Serves detection, segmentation and classification.

    Raises:
        ValueError: If a head's ``num_classes`` is not the data set's number of classes, or an
            annotation file lacks some of the classes that the config names.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training set, and the validation set that will follow."""
        self._check(runner, runner.train_dataloader.dataset, 'train_dataloader')
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Check the validation set."""
        self._check(runner, runner.val_dataloader.dataset, 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Check the test set, and the order of its categories."""
        dataset = runner.test_dataloader.dataset
        self._check(runner, dataset, 'test_dataloader')
        for metric in runner.test_evaluator.metrics:
            check_metric_categories(metric, dataset)

    def _check(self, runner: Runner, dataset: Dataset, loader: str) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_data_classes(model, dataset, loader)


def check_data_classes(model: nn.Module, dataset: Dataset, loader: str) -> None:
    """Check that the heads of a model, the classes and the annotation file of its data fit.

    Args:
        model: The model, unwrapped.
        dataset: The data set.
        loader: What messages call it, such as ``test_dataloader``.

    Raises:
        ValueError: If they do not fit.
    """
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if not classes:
        return
    check_class_count(model, classes, loader)
    # mmdet numbers the classes that it finds, so a missing one shifts the labels of the rest.
    for each in unwrapped(dataset):
        found = getattr(each, 'cat_ids', None)
        if found is not None and len(found) != len(classes):
            raise UserError(
                f'the annotation file of {loader} knows {len(found)} of the {len(classes)} classes '
                f'that metainfo.classes names ({", ".join(classes)}); make the names equal to '
                "those in the file's categories"
            )


def check_metric_categories(metric: BaseMetric, dataset: Dataset) -> None:
    """Check that COCO's metric numbers the categories of its file as the classes are.

    Args:
        metric: Any; only one with an annotation file of COCO is checked.
        dataset: The data that it evaluates.

    Raises:
        ValueError: If names or their order differ.
    """
    coco = getattr(metric, '_coco_api', None)
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    if coco is None or not classes or getattr(metric, 'format_only', False):
        return
    names = [category['name'] for category in coco.dataset['categories']]
    for finding in check_names('the annotation file of the metric', names, classes):
        raise UserError(f'{finding.problem}: {finding.path}: {finding.detail}')


def check_class_count(model: nn.Module, classes: Sequence[str], source: str) -> None:
    """Check that every head of a model predicts as many classes as there are names.

    Args:
        model: Of mmdet, mmseg or mmpretrain.
        classes: Their names.
        source: Origin of the names, for the message.

    Raises:
        ValueError: If a head has another ``num_classes``.
    """
    for name, module in model.named_modules():
        num_classes = getattr(module, 'num_classes', None)
        if not _HEADS.fullmatch(name) or num_classes is None:
            continue
        if num_classes != len(classes):
            raise UserError(
                f'model.{name}.num_classes={num_classes}, but {source} has {len(classes)} '
                f'classes ({", ".join(classes[:5])}{", ..." if len(classes) > 5 else ""}); '
                f'set num_classes={len(classes)} in every head, or metainfo.classes of the '
                'data set'
            )

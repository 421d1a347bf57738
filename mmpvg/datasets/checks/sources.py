"""The data sets of a config."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.registry import DATASETS

from mmpvg.utils.errors import UserError

from .finding import Finding

# Data sets of mmpretrain that fetch their own files.
DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


@dataclass(frozen=True)
class Source:
    """One data set of a config.

    Attributes:
        key: Where it stands in the config, such as ``train_dataloader.dataset``.
        config: Its settings.
        kind: Its class.
        classes: Names from ``metainfo``, or the class's own; None if there are none.
        own_classes: Whether the names are the class's own.
        training: Whether it is trained on; otherwise it is evaluated on.
        masks: Whether the masks of objects are used.
        evaluated_file: The annotation file that COCO's metric reads.
    """

    key: str
    config: Mapping
    kind: type
    classes: tuple[str, ...] | None
    own_classes: bool
    training: bool
    masks: bool
    evaluated_file: str | None = None

    @property
    def ann_file(self) -> str:
        """Path of the annotation file; '' if there is none."""
        path = self.config.get('ann_file') or ''
        return osp.join(self.config.get('data_root') or '', path) if path else ''

    def folder(self, name: str) -> str:
        """A folder of ``data_prefix``, such as ``img``."""
        prefix = self.config.get('data_prefix') or {}
        path = prefix if isinstance(prefix, str) else prefix.get(name) or ''
        return osp.join(self.config.get('data_root') or '', path)

    @property
    def is_coco(self) -> bool:
        """Whether mmdet's ``CocoDataset`` reads it."""
        coco = next((kind for kind in self.kind.__mro__ if kind.__name__ == 'CocoDataset'), None)
        return coco is not None and all(
            getattr(self.kind, name) is getattr(coco, name)
            for name in ('COCOAPI', 'load_data_list', 'parse_data_info', 'filter_data')
        )

    @property
    def is_local(self) -> bool:
        """Whether its files lie on a disk of this machine."""
        fetched = self.kind.__name__ in DOWNLOADED and self.config.get('download', True)
        remote = not on_local_disk(self.config) or '://' in self.ann_file
        return not (remote or fetched or '://' in str(self.config.get('data_root') or ''))


def on_local_disk(config: Mapping) -> bool:
    """Whether a data set reads its files with the backend of the local disk."""
    backend = config.get('backend_args')
    return backend is None or backend.get('backend') == 'local'


def datasets_in(node: Any, key: str) -> Iterator[tuple[str, dict]]:
    """Every data set below a dataloader, wrapped ones included, with its key in the config."""
    if isinstance(node, dict):
        if any(setting in node for setting in ('data_root', 'data_prefix', 'ann_file')):
            yield key, node
        for name in ('dataset', 'datasets'):
            yield from datasets_in(node.get(name), f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from datasets_in(child, f'{key}.{index}')


def sources_of(cfg: Mapping, split: str) -> Iterator[Source | Finding]:
    """The data sets of a split of a config in the default scope, or findings of their classes."""
    metrics = cfg.get(f'{split}_evaluator') or ()
    metrics = [metrics] if isinstance(metrics, Mapping) else list(metrics)
    coco = next((m for m in metrics if _name(m) == 'CocoMetric'), {})
    kinds = coco.get('metric', 'bbox')
    segm = 'segm' in ([kinds] if isinstance(kinds, str) else kinds)
    for key, config in datasets_in(cfg.get(f'{split}_dataloader'), f'{split}_dataloader'):
        kind = _class_of(config['type'])
        if kind is None:
            continue
        training = split == 'train'
        try:
            classes, own = _classes(config, kind)
        except ValueError as error:
            yield Finding(key, 'classes are text', str(error), 'senseless')
            classes, own = None, False
        loaded = any(t.get('with_mask') for t in config.get('pipeline') or ())
        file = None if training or coco.get('format_only') else coco.get('ann_file')
        yield Source(key, config, kind, classes, own, training, loaded if training else segm, file)


def _classes(config: Mapping, kind: type) -> tuple[tuple[str, ...] | None, bool]:
    """Names as mmengine and mmpretrain take them from settings, and whether they are the class's.

    Raises:
        ValueError: If the setting is a text that is not a file of names.
    """
    given = config.get('classes') or (config.get('metainfo') or {}).get('classes')
    if given is None:
        own = (getattr(kind, 'METAINFO', None) or {}).get('classes')
        return tuple(own) if own else None, True
    if isinstance(given, str):
        if not osp.isfile(given):
            raise UserError(
                f'metainfo.classes is the text {given!r}, whose letters become the classes; with '
                f'parentheses and a comma it is a tuple of one name: classes=({given!r},)'
            )
        with open(given, encoding='utf-8') as file:
            given = [line.rstrip('\n\r') for line in file]
    return tuple(given), False


def _class_of(kind: Any) -> type | None:
    if not isinstance(kind, str):
        return kind
    # As mmengine's build does, which looks in the default scope.
    with DATASETS.switch_scope_and_registry(None) as registry:
        return registry.get(kind)


def _name(config: Mapping) -> str:
    kind = config.get('type')
    return (kind if isinstance(kind, str) else kind.__name__).split('.')[-1]

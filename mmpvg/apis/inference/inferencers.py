"""mmdet's and mmseg's inferencers with checked weights and class names."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.registry import DATASETS, init_default_scope
from torch import nn

from mmpvg.checkpoints.mmengine_reading import read_checkpoint
from mmpvg.checkpoints.strict import fit_weights
from mmpvg.datasets.unwrap import innermost_config
from mmpvg.engine.config.config_model import complete_model
from mmpvg.engine.config.host import check_device
from mmpvg.engine.config.preflight import refuse_code_in_data
from mmpvg.engine.hooks.class_count import check_class_count
from mmpvg.utils import require_stack
from mmpvg.utils.errors import UserError

from .reading import is_transform

_VISUALIZERS = dict(mmdet='DetLocalVisualizer', mmseg='SegLocalVisualizer')

# They need annotations.
_OF_ANNOTATIONS = ('LoadAnnotations', 'LoadPanopticAnnotations', 'CheckLoaded')


def build_inferencer(
    config: Config, checkpoint: str | None, device: str | None = None
) -> BaseInferencer:
    """Build upstream's inferencer of a detector or a segmenter, for arrays and files.

    Upstream goes on with a warning where weights do not fit the model, and takes the class names of
    COCO or Cityscapes where a checkpoint has none.

    Args:
        config: Of the model, with ``test_dataloader``. It is not changed.
        checkpoint: File or URL of the weights; None for an untrained model.
        device: Such as ``cuda:1``; None for the accelerator, if there is one.

    Returns:
        A ``DetInferencer`` or ``MMSegInferencer``.

    Raises:
        UserError: If the config is of another task, the checkpoint is missing or does not fit the
            model, the names of the classes are unknown or not as many as the heads predict, or the
            device cannot be used.
    """
    scope = config.get('default_scope')
    if scope not in _VISUALIZERS:
        kinds = 'ImageClassificationInferencer for a classifier, ImageRetrievalInferencer'
        fix = f': use mmpretrain.apis.{kinds} for a retriever' if scope == 'mmpretrain' else ''
        raise UserError(
            f'prediction serves detectors and segmenters (default_scope mmdet or mmseg), but the '
            f'default_scope of the config is {scope!r}{fix}'
        )
    require_stack(scope)
    if device is not None:
        check_device(device)
    init_default_scope(scope)
    if scope == 'mmdet':
        from mmdet.apis import DetInferencer as Upstream
    else:
        from mmseg.apis import MMSegInferencer as Upstream
    inferencer = _checked(Upstream, checkpoint)(_prepare(config), device=device)
    inferencer.show_progress = False
    return inferencer


def _prepare(config: Config) -> Config:
    """Make the config that upstream's inferencers take."""
    refuse_code_in_data(config, 'test')
    cfg = copy.deepcopy(config)
    if cfg.get('test_dataloader') is None:
        raise UserError('the config has no test_dataloader, whose pipeline prediction uses')
    complete_model(cfg)
    dataset = cfg.test_dataloader.dataset = innermost_config(cfg.test_dataloader)
    if 'pipeline' not in dataset:
        raise UserError(
            f'the test_dataloader of the config holds a {dataset.type} without a pipeline, so it '
            'is not known how to read images; set test_dataloader.dataset to a single data set'
        )
    dataset.pipeline = [t for t in dataset.pipeline if not is_transform(t, *_OF_ANNOTATIONS)]
    for transform in dataset.pipeline:
        if is_transform(transform, 'LoadImageFromFile'):
            # They look for the name without a scope.
            transform.type = 'LoadImageFromFile'
    # Without backends, which would keep each picture once more.
    cfg.visualizer = dict(type=visualizer_type(cfg), name='prediction')
    return cfg


def visualizer_type(config: Config) -> str:
    """Return the type of a config's visualizer, or else of its scope's."""
    return (config.get('visualizer') or {}).get('type', _VISUALIZERS[config.default_scope])


def _checked(upstream: type[BaseInferencer], source: str | None) -> type[BaseInferencer]:
    """Replace the reading and loading of weights in upstream's class."""

    class CheckedInferencer(upstream):
        def _load_weights_to_model(
            self, model: nn.Module, checkpoint: dict | None, cfg: Config
        ) -> None:
            if source is None:
                checkpoint = dict(state_dict=model.state_dict())
            else:
                checkpoint = read_checkpoint(source)
                fit_weights(model, checkpoint, source)
            meta = _dataset_meta(checkpoint, cfg)
            check_class_count(model, meta['classes'], source or 'the config')
            weights = checkpoint.get('state_dict', checkpoint)
            loaded = dict(state_dict=weights, meta=dict(dataset_meta=meta))
            super()._load_weights_to_model(model, loaded, cfg)

    CheckedInferencer.__name__ = f'Checked{upstream.__name__}'
    return CheckedInferencer


def _dataset_meta(checkpoint: dict, cfg: Config) -> dict[str, Any]:
    """Classes and palette of a checkpoint, or where it has none, of the config's test data."""
    meta = checkpoint.get('meta') or {}
    found = {key.lower(): value for key, value in (meta.get('dataset_meta') or {}).items()}
    # As the first generation of mmdet and mmseg wrote them.
    classes = found.get('classes') or meta.get('CLASSES')
    palette = found.get('palette') or meta.get('PALETTE')
    if not (classes and palette):
        # Their names are known without the data.
        metainfo = DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True}).metainfo
        classes = classes or metainfo.get('classes')
        palette = palette or metainfo.get('palette')
    if not classes:
        raise UserError(
            'neither the checkpoint nor the config has the names of the classes; set '
            '--cfg-options test_dataloader.dataset.metainfo.classes="(NAME,NAME)"'
        )
    if isinstance(palette, str) or palette is None or len(palette) != len(classes):
        # As mmseg's data sets do.
        palette = np.random.RandomState(42).randint(0, 255, (len(classes), 3)).tolist()
    return dict(classes=tuple(classes), palette=[tuple(map(int, color)) for color in palette])

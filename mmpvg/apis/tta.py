"""Puts test-time augmentation into a config (``--tta``)."""

from __future__ import annotations

import logging
from copy import deepcopy

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmpvg.datasets.unwrap import innermost_config
from mmpvg.utils.errors import UserError

_DET_META = (
    'img_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
)

_FLIPS = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]


def use_tta(cfg: Config) -> tuple[str, ...]:
    """Wrap the model of a config in ``tta_model`` and replace its pipeline by ``tta_pipeline``.

    A detector's or classifier's config may leave out either: the image and its mirror image are
    merged then. Detectors are tested on boxes alone, since mmdet merges no masks.

    Args:
        cfg: The config of the run, changed in place.

    Returns:
        Prefixes of parameters of the checkpoint that the tested model does not have.

    Raises:
        UserError: If a segmenter's config lacks either setting.
    """
    left_out: tuple[str, ...] = ()
    if cfg.get('default_scope') == 'mmdet':
        complete_for_detection(cfg)
        left_out = _drop_masks(cfg)
    elif cfg.get('default_scope') == 'mmpretrain':
        complete_for_classification(cfg)
    elif missing := [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]:
        raise UserError(
            f'--tta needs {" and ".join(missing)} in the config; see configs/_base_/ for examples'
        )
    cfg.model = ConfigDict(**deepcopy(cfg.tta_model), module=cfg.model)
    innermost_config(cfg.test_dataloader).pipeline = cfg.tta_pipeline
    return left_out


def evaluators(cfg: Config) -> list[ConfigDict]:
    """Return the test evaluators of a config, which may have one or a list."""
    given = cfg.test_evaluator
    return list(given) if isinstance(given, (list, tuple)) else [given]


def complete_for_detection(cfg: Config) -> None:
    """Add the settings that a detector's config lacks: the image and its mirror image."""
    if 'tta_model' not in cfg:
        nms = dict(type='nms', iou_threshold=0.5)
        cfg.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=nms, max_per_img=100))
    if 'tta_pipeline' not in cfg:
        steps = deepcopy(innermost_config(cfg.test_dataloader).pipeline)
        pack = [dict(type='PackDetInputs', meta_keys=_DET_META)]
        cfg.tta_pipeline = [*steps[:-1], dict(type='TestTimeAug', transforms=[_FLIPS, pack])]


def complete_for_classification(cfg: Config) -> None:
    """Add the settings that a classifier's config lacks."""
    if 'tta_model' not in cfg:
        cfg.tta_model = dict(type='AverageClsScoreTTA')
    if 'tta_pipeline' not in cfg:
        *steps, pack = deepcopy(innermost_config(cfg.test_dataloader).pipeline)
        cfg.tta_pipeline = [*steps, dict(type='TestTimeAug', transforms=[_FLIPS, [pack]])]


def _drop_masks(cfg: Config) -> tuple[str, ...]:
    if cfg.model.get('roi_head', {}).get('mask_head') is None:
        return ()
    cfg.model.roi_head.update(mask_roi_extractor=None, mask_head=None)
    for evaluator in evaluators(cfg):
        if 'segm' in evaluator.get('metric', ()):
            evaluator.metric = 'bbox'
    print_log('mmpvg: --tta tests boxes only, as mmdet merges no masks', level=logging.WARNING)
    return ('roi_head.mask_head.',)

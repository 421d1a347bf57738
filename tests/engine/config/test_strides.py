"""Heads whose strides are not those of the maps, and images that are no multiple of the patch."""

import copy
import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope

from mmpvg.apis.cli import train
from mmpvg.engine.config.strides import check_segmenter_sizes, check_strides

# Small, with the strides of a patch of 16.
SMALL = {
    'model.backbone.arch': dict(_delete_=True, embed_dims=32, num_layers=4, num_heads=2),
    'model.backbone.init_cfg': None,
    'model.neck.in_channels': 32,
    'model.neck.out_channels': 16,
    'model.rpn_head.in_channels': 16,
    'model.rpn_head.feat_channels': 16,
    'model.roi_head.bbox_roi_extractor.out_channels': 16,
    'model.roi_head.mask_roi_extractor.out_channels': 16,
    'model.roi_head.bbox_head.in_channels': 16,
    'model.roi_head.bbox_head.fc_out_channels': 16,
    'model.roi_head.mask_head.in_channels': 16,
    'model.roi_head.mask_head.conv_out_channels': 16,
}
OF_14 = {
    'model.rpn_head.anchor_generator.strides': [3.5, 7, 14, 28, 56],
    'model.roi_head.bbox_roi_extractor.featmap_strides': [3.5, 7, 14, 28],
    'model.roi_head.mask_roi_extractor.featmap_strides': [3.5, 7, 14, 28],
}


def detector(repo, patch_size, **changed):
    cfg = Config.fromfile(repo / 'configs/mask_rcnn_vit_mpvg.py')
    cfg.merge_from_dict({**SMALL, 'model.backbone.patch_size': patch_size, **changed})
    init_default_scope('mmdet')
    return MODELS.build(cfg.model)


def test_the_strides_of_the_maps_pass(repo):
    model = detector(repo, 16).train()
    model.neck.eval()
    modes = [module.training for module in model.modules()]
    check_strides(model)
    assert [module.training for module in model.modules()] == modes
    check_strides(detector(repo, 14, **OF_14))
    # A wrapper with several detectors.
    check_strides(torch.nn.ModuleDict(dict(teacher=model, student=model)))


@pytest.mark.parametrize('patch_size', [14, 8])
def test_other_strides_are_refused(repo, patch_size):
    model = detector(repo, patch_size)
    of_maps = r'\[3.5, 7, 14, 28, 56\]' if patch_size == 14 else r'\[2, 4, 8, 16, 32\]'
    with pytest.raises(
        ValueError,
        match=r'rpn_head.prior_generator.strides assumes.*\[4, 8, 16, 32, 64\].*' + of_maps,
    ):
        check_strides(model)


def test_anchors_of_too_few_levels_are_refused(repo):
    few = {'model.rpn_head.anchor_generator.strides': [4, 8, 16, 32]}
    with pytest.raises(ValueError, match=r'assumes strides \[4, 8, 16, 32\], but'):
        check_strides(detector(repo, 16, **few))


@pytest.mark.parametrize('left', list(OF_14))
def test_every_place_that_says_strides_is_looked_at(repo, left):
    changed = {key: value for key, value in OF_14.items() if key != left}
    name = left.removeprefix('model.').replace('anchor_generator', 'prior_generator')
    with pytest.raises(ValueError, match=name):
        check_strides(detector(repo, 14, **changed))


def test_a_box_is_pooled_where_it_lies(repo):
    """What the check is for: maps that hold their own x, in pixels."""
    x_of_box, found = 920, {}
    for name, changed in (('right', OF_14), ('wrong', {})):
        model = detector(repo, 14, **changed)
        maps = [
            ((torch.arange(1008 * 2 // s) + 0.5) * s / 2).expand(1, 16, 1008 * 2 // s, -1)
            for s in (7, 14, 28, 56)
        ]
        roi = torch.tensor([[0, x_of_box - 20, x_of_box - 20, x_of_box + 20, x_of_box + 20.0]])
        extractor = model.roi_head.bbox_roi_extractor
        found[name] = extractor([m.contiguous() for m in maps], roi).mean().item()
    assert found['right'] == pytest.approx(x_of_box, abs=1)
    assert found['wrong'] == pytest.approx(x_of_box * 14 / 16, abs=1)


SSD, FCOS = 'ssd/ssd300_coco.py', 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
HTC, GUIDED = 'htc/htc_r50_fpn_1x_coco.py', 'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco.py'
WRONG = {
    SSD: {'bbox_head.anchor_generator.strides': [8, 16, 16, 64, 100, 300]},
    FCOS: {'bbox_head.strides': [4, 8, 16, 32, 64]},
    HTC: {'roi_head.mask_roi_extractor.featmap_strides': [8, 16, 32, 64]},
    GUIDED: {
        f'bbox_head.{kind}_anchor_generator.strides': [4, 8, 16, 32, 64]
        for kind in ('square', 'approx')
    },
}


@pytest.mark.parametrize('name', WRONG)
def test_upstreams_detectors(name):
    cfg = Config.fromfile(f'{mmdet_configs()}/{name}')
    init_default_scope('mmdet')
    # Nothing is downloaded.
    cfg.model.backbone.pop('init_cfg', None)
    check_strides(MODELS.build(copy.deepcopy(cfg.model)))
    cfg.merge_from_dict({f'model.{setting}': value for setting, value in WRONG[name].items()})
    with pytest.raises(ValueError, match='strides'):
        check_strides(MODELS.build(cfg.model))


def mmdet_configs():
    from mmengine.utils import get_installed_path

    return f'{get_installed_path("mmdet")}/.mim/configs'


def segmenter(repo, patch_size, **changed):
    cfg = Config.fromfile(repo / 'configs/upernet_vit_mpvg.py')
    cfg.merge_from_dict(
        {
            'model.backbone.arch': dict(_delete_=True, embed_dims=32, num_layers=12, num_heads=2),
            'model.backbone.patch_size': patch_size,
            'model.backbone.init_cfg': None,
            'model.neck.embed_dim': 32,
            'model.decode_head.in_channels': [32] * 4,
            'model.decode_head.channels': 16,
            'model.auxiliary_head.in_channels': 32,
            'model.auxiliary_head.channels': 16,
            **changed,
        }
    )
    init_default_scope('mmseg')
    return cfg, MODELS.build(cfg.model)


SIZES_OF_14 = {
    'model.data_preprocessor.size': (518, 518),
    'model.data_preprocessor.test_cfg.size_divisor': 14,
    'model.test_cfg.crop_size': (518, 518),
    'model.test_cfg.mode': 'slide',
}


def test_sizes_of_segmenters(repo):
    check_segmenter_sizes(*segmenter(repo, 16))
    check_segmenter_sizes(*segmenter(repo, 14, **SIZES_OF_14))


@pytest.mark.parametrize('left', list(SIZES_OF_14)[:3])
def test_sizes_of_segmenters_that_are_no_multiple(repo, left):
    changed = {key: value for key, value in SIZES_OF_14.items() if key != left}
    if left == 'model.test_cfg.crop_size':
        changed[left] = (512, 512)
    with pytest.raises(ValueError, match=rf'{left}=.* is no multiple of patch_size=14.*(518|28)'):
        check_segmenter_sizes(*segmenter(repo, 14, **changed))


@pytest.mark.parametrize('mode', ['whole', 'slide'])
@pytest.mark.parametrize('divisor', [None, 14, 16])
def test_test_images_of_any_size(repo, caplog, divisor, mode):
    cfg, model = segmenter(repo, 16, **{'model.test_cfg.mode': mode})
    cfg.model.data_preprocessor.test_cfg = None
    pipeline = [dict(type='LoadImageFromFile')]
    if divisor:
        pipeline.append(dict(type='mmseg.ResizeToMultiple', size_divisor=divisor))
    cfg.test_dataloader.dataset.pipeline = pipeline
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING):
            check_segmenter_sizes(cfg, model)
    finally:
        logger.removeHandler(caplog.handler)
    assert ('do not lie on their pixels' in caplog.text) == (divisor != 16)


def test_training_stops_before_it_starts(repo, sample_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/sample').symlink_to(sample_data)
    config = str(repo / 'configs/sample/mask_rcnn_vit_mpvg_sample.py')
    with pytest.raises(ValueError, match='assumes strides'):
        train([config, '--work-dir', 'out', '--cfg-options', 'model.backbone.patch_size=16'])

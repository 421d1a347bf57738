"""Recipes for patches of 14 and 8 pixels: positions of boxes, anchors and masks."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DETECTORS = {patch: f'mask_rcnn/mask_rcnn_vit-s-p{patch}_mpvg_8xb1-ms-3x_coco' for patch in (14, 8)}
DETECTORS[16] = 'mask_rcnn/mask_rcnn_vit-s_mpvg_8xb1-ms-3x_coco'
SEGMENTERS = {
    14: 'upernet/upernet_vit-s-p14_mpvg_8xb1-160k_ade20k-504x504',
    8: 'upernet/upernet_vit-s-p8_mpvg_8xb1-160k_ade20k-512x512',
    16: 'upernet/upernet_vit-s_mpvg_8xb1-160k_ade20k-512x512',
}
BOXES = [(100, 140), (500, 540), (900, 940), (30, 700)]


def build(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    # One block, on which no stride depends.
    cfg.model.backbone.update(
        arch=dict(embed_dims=384, num_layers=1, num_heads=6), pe_delivery='default',
        window_size=0, out_indices=(0,), init_cfg=None,
    )  # fmt: skip
    if cfg.model.neck.type == 'mmpvg.SimpleFeaturePyramid':
        cfg.model.neck.in_channels = 384
    return cfg, revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model))).eval()


@pytest.mark.parametrize('patch', DETECTORS)
def test_boxes_are_pooled_where_they_lie(patch):
    """Of maps whose cells hold their own x in pixels, RoIAlign gives the x of the box."""
    cfg, model = build(DETECTORS[patch])
    divisor = model.data_preprocessor.pad_size_divisor
    side = 1000 // divisor * divisor
    with torch.no_grad():
        maps = model.extract_feat(torch.zeros(1, 3, divisor, side))
    widths = [m.shape[3] for m in maps]
    true = [side / width for width in widths[:4]]
    generator = model.rpn_head.prior_generator
    assert [stride[0] for stride in generator.strides[:4]] == true
    cells = [
        ((torch.arange(width) + 0.5) * stride).expand(1, 256, width, width).contiguous()
        for width, stride in zip(widths, true)
    ]
    boxes = torch.tensor([[0, left, left, right, right] for left, right in BOXES]).float()
    for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
        pooled = extractor(cells, boxes).mean((1, 2, 3))
        assert pooled.tolist() == pytest.approx([sum(box) / 2 for box in BOXES], abs=0.5)
    priors = generator.grid_priors([(width, width) for width in widths], device='cpu')
    for prior, stride, width in zip(priors, true, widths):
        # Three anchors a cell, centered on its upper left corner as mmdet's are.
        first_row = prior[: 3 * width].view(width, 3, 4)
        centers = first_row[..., [0, 2]].mean(-1)
        expected = (torch.arange(width) * stride)[:, None].expand_as(centers)
        assert torch.allclose(centers, expected, atol=1e-3)


def test_small_boxes_go_to_the_finest_map():
    """A box of 28 cells of the finest map or more goes to the next one, whatever the stride."""
    for patch, first in ((16, 112), (8, 112), (14, 98)):
        extractor = build(DETECTORS[patch])[1].roi_head.bbox_roi_extractor
        sides = torch.tensor([first - 2.0, first + 2.0])
        rois = torch.stack([sides * 0, sides * 0, sides * 0, sides, sides], dim=1)
        assert extractor.map_roi_levels(rois, 4).tolist() == [0, 1]


@pytest.mark.parametrize('patch', SEGMENTERS)
def test_segmenters_see_whole_cells_only(patch):
    """Crops, windows and tested images are multiples of the coarsest stride."""
    cfg, model = build(SEGMENTERS[patch])
    divisor = cfg.model.data_preprocessor.test_cfg.size_divisor
    steps = {step['type']: step for step in cfg.test_dataloader.dataset.pipeline}
    assert steps['ResizeToMultiple'].size_divisor == divisor
    with torch.no_grad():
        feature = model.backbone(torch.zeros(1, 3, divisor * 2, divisor * 3))
        maps = model.neck(list(feature) * 4)
    strides = [patch / scale for scale in cfg.model.neck.rescales]
    assert [3 * divisor / m.shape[3] for m in maps] == strides
    assert divisor % strides[-1] == 0
    train = {step['type']: step for step in cfg.train_dataloader.dataset.pipeline}
    crops = (cfg.crop_size, cfg.model.data_preprocessor.size, train['RandomCrop'].crop_size)
    assert {*crops, cfg.model.test_cfg.crop_size} == {cfg.crop_size}
    assert not any(side % divisor for side in cfg.crop_size)
    # Windows of 512 with a stride of 341 are ViT-Adapter's; elsewhere patches stay on one raster.
    assert patch != 14 or not any(step % divisor for step in cfg.model.test_cfg.stride)

"""Every dense config loads and builds, its backbone runs; the recipes are docs/papers.md's."""

import copy
import re
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from mmpvg.datasets.sample import (
    SAMPLE_CLASSES,
    SAMPLE_PALETTE,
    SAMPLE_SEG_CLASSES,
    SAMPLE_SEG_PALETTE,
)
from mmpvg.models import MPVGViTAdapter
from mmpvg.models.backbones import PlainViT
from mmpvg.models.layers import DecomposedRelativePosition, RelativePositionMlp

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Classification and retrieval have a file of tests of their own.
LEAVES = sorted(
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
    and path.name.startswith(('mask_rcnn', 'upernet', 'cascade', 'vitdet', 'segmenter'))
)
WIDTHS = {'t': 192, 's': 384, 'b': 768}
DELIVERIES = ('default', 'lape', 'pvg', 'mpvg')


def load(name):
    return Config.fromfile(CONFIGS / name)


@pytest.mark.parametrize('name', LEAVES)
def test_builds_and_its_backbone_runs(name):
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model))).eval()
    assert isinstance(model.backbone, PlainViT)
    # Sides that are multiples of the coarsest stride.
    size = (112, 168) if '-p14_' in name else (96, 128)
    with torch.no_grad():
        maps = model.extract_feat(torch.rand(1, 3, *size))
    strides = [3.5, 7, 14, 28] if '-p14_' in name else [4, 8, 16, 32]
    if name == 'sample/mask_rcnn_vit_mpvg_sample.py':
        strides = [4, 8, 16]
    elif name.startswith('segmenter'):
        strides = [16]
    found = [(size[0] / m.shape[2], size[1] / m.shape[3]) for m in maps[:4]]
    assert found == [(stride, stride) for stride in strides]
    if hasattr(model, 'rpn_head'):
        # The heads have the strides that the maps have.
        of_anchors = [stride[0] for stride in model.rpn_head.prior_generator.strides]
        assert of_anchors[: len(strides)] == strides and len(of_anchors) == len(maps)
        for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
            for one in extractor if isinstance(extractor, torch.nn.ModuleList) else [extractor]:
                assert one.featmap_strides == strides[: len(one.featmap_strides)]
    head = model.decode_head if hasattr(model, 'decode_head') else model.rpn_head
    widths = head.in_channels if isinstance(head.in_channels, list) else [head.in_channels] * 5
    assert all(m.shape[1] == width for m, width in zip(maps, widths))


def method(name):
    """Parse the name of a config: adapter or not, size, patch size, delivery, extras."""
    backbone, method = Path(name).stem.split('_vit-')[1].split('_')[:2]
    adapted = backbone.startswith('adapter-')
    size, _, patch = backbone.removeprefix('adapter-').partition('-p')
    delivery, *extras = method.split('-')
    return adapted, size, int(patch or 16), delivery, extras


@pytest.mark.parametrize('name', [n for n in LEAVES if '_vit-' in n and 'sample' not in n])
def test_names_say_what_is_inside(name):
    cfg = load(name)
    adapted, size, patch, delivery, extras = method(name)
    init_default_scope(cfg.default_scope)
    backbone = MODELS.build(copy.deepcopy(cfg.model.backbone))
    assert isinstance(backbone, MPVGViTAdapter) == adapted
    assert backbone.embed_dims == WIDTHS[size]
    assert backbone.patch_embed.proj.kernel_size == (patch, patch)
    assert cfg.model.backbone.pe_delivery == delivery
    attentions = [block.attn for block in backbone.blocks]
    windowed = [attention.window_size > 0 for attention in attentions]
    biased = [attention.bias is not None for attention in attentions]
    if 'gab' in extras:
        assert biased == (windowed if any(windowed) else [True] * 12)
    else:
        assert not any(biased)
    kind = {'relpos': RelativePositionMlp}.get(extras[0] if extras else None, type(None))
    kind = DecomposedRelativePosition if name.startswith('vitdet') else kind
    assert {type(attention.rel_pos) for attention in attentions} == {kind}
    assert set(extras) <= {'gab', 'relpos'}
    # The batch is the one that the name says.
    gpus, batch = re.search(r'_(\d+)xb(\d+)-', name).groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)


@pytest.mark.parametrize('name', [name for name in LEAVES if not name.startswith('sample')])
def test_starts_from_published_weights_of_its_size(name):
    backbone = load(name).model.backbone
    assert backbone.init_cfg.type == 'mmpvg.PretrainedViT'
    size = backbone.arch.removeprefix('deit-')
    source = f'deit_{size}_patch16_224.fb_in1k'
    if name.startswith('vitdet'):
        source = 'vit_base_patch16_224.mae'
    elif '-p14_' in name:
        source = 'vit_small_patch14_dinov2.lvd142m'
    elif '-p8_' in name:
        source = 'vit_small_patch8_224.dino'
    elif 'relpos' in name:
        source = f'vit_relpos_{size}_patch16_224.sw_in1k'
    assert backbone.init_cfg.checkpoint == f'timm://{source}'
    assert timm.models.is_model_pretrained(source), 'timm has no such weights'


@pytest.mark.parametrize(
    ('pattern', 'sizes'),
    [
        ('mask_rcnn/mask_rcnn_vit-{}_mpvg_8xb1-ms-3x_coco', 'tsb'),
        ('upernet/upernet_vit-{}_mpvg_8xb1-160k_ade20k-512x512', 'tsb'),
        ('mask_rcnn/mask_rcnn_vit-{}-p14_mpvg_8xb1-ms-3x_coco', 's'),
        ('mask_rcnn/mask_rcnn_vit-{}-p8_mpvg_8xb1-ms-3x_coco', 's'),
        ('upernet/upernet_vit-{}-p14_mpvg_8xb1-160k_ade20k-504x504', 's'),
        ('upernet/upernet_vit-{}-p8_mpvg_8xb1-160k_ade20k-512x512', 's'),
        ('mask_rcnn/mask_rcnn_vit-adapter-{}_mpvg_8xb1-ms-3x_coco', 't'),
        ('mask_rcnn/mask_rcnn_vit-adapter-{}_mpvg_8xb2-ms-3x_coco', 's'),
        ('mask_rcnn/mask_rcnn_vit-adapter-{}_mpvg_8xb2-1x_coco', 'ts'),
        ('cascade_mask_rcnn/cascade_mask_rcnn_vit-adapter-{}_mpvg_8xb2-ms-3x_coco', 's'),
        ('upernet/upernet_vit-adapter-{}_mpvg_8xb1-160k_ade20k-512x512', 't'),
        ('upernet/upernet_vit-adapter-{}_mpvg_8xb2-160k_ade20k-512x512', 's'),
        ('vitdet/vitdet_vit-{}_default_16xb4-lsj-100e_coco', 'b'),
        ('segmenter/segmenter-mask_vit-{}_default_8xb1-160k_ade20k-512x512', 'ts'),
        ('segmenter/segmenter-linear_vit-{}_mpvg_8xb1-160k_ade20k-512x512', 'ts'),
    ],
)
def test_there_is_a_leaf_for_every_size_and_an_option_for_every_delivery(pattern, sizes):
    for size in sizes:
        name = pattern.format(size) + '.py'
        assert name in LEAVES
        # Equations of docs/papers.md: a PE norm in each of 12 blocks, but PVG's and MPVG's first.
        blocks = {}
        for delivery in DELIVERIES:
            own = name.replace('_default_', f'_{delivery}_')
            cfg = load(own if own in LEAVES else name)
            cfg.merge_from_dict({'model.backbone.pe_delivery': delivery})
            init_default_scope(cfg.default_scope)
            with torch.device('meta'):
                backbone = MODELS.build(cfg.model.backbone)
            names = [n for n, _ in backbone.named_parameters() if 'pe_delivery' in n]
            assert ('pe_delivery.last_norm.weight' in names) == (delivery == 'mpvg')
            blocks[delivery] = sorted(
                int(n.split('.')[2]) for n in names if re.search(r'block_norms\.\d+\.weight', n)
            )
        assert blocks == {
            'default': [], 'lape': [*range(12)], 'pvg': [*range(1, 12)], 'mpvg': [*range(1, 12)],
        }  # fmt: skip


def test_leaves_are_short():
    for name in LEAVES:
        if not name.startswith('sample'):
            assert len((CONFIGS / name).read_text().splitlines()) <= 15, name


def test_coco_recipe():
    cfg = load('mask_rcnn_vit_mpvg.py')
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.05)
    assert 'layer_decay_rate' not in cfg.optim_wrapper.get('paramwise_cfg', {})
    assert cfg.auto_scale_lr.base_batch_size == 8
    assert cfg.train_dataloader.batch_size == 1
    assert cfg.train_cfg.max_epochs == 36
    warmup, steps = cfg.param_scheduler
    # mmengine's schedulers reach their end one iteration early.
    assert (warmup.start_factor, warmup.end - 1, warmup.by_epoch) == (0.001, 500, False)
    assert steps.milestones == [27, 33] and steps.by_epoch
    backbone = MODELS.build(copy.deepcopy(cfg.model.backbone))
    windows = [block.attn.window_size for block in backbone.blocks]
    assert [i for i, size in enumerate(windows) if size] == [0, 1, 3, 4, 6, 7, 9, 10]
    assert set(windows) == {0, 14}
    assert backbone.blocks[-1].drop_path.rate == pytest.approx(0.1)
    flip, choice, crop = cfg.train_dataloader.dataset.pipeline[3:6]
    resize, cropped = choice.transforms
    assert [scale[0] for scale in resize[0].scales] == list(range(480, 801, 32))
    assert {scale[1] for scale in resize[0].scales} == {1333}
    assert [scale[0] for scale in cropped[0].scales] == [400, 500, 600]
    assert cropped[1].crop_size == (384, 600)
    assert crop.crop_size == (1024, 1024)
    assert cfg.test_dataloader.dataset.pipeline[1].scale == (1333, 800)


def test_ade20k_recipe():
    cfg = load('upernet_vit_mpvg.py')
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 12e-5, 0.01)
    assert tuple(optimizer.betas) == (0.9, 0.999)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.95
    assert cfg.auto_scale_lr.base_batch_size == 8
    assert cfg.train_cfg.max_iters == 160000
    warmup, poly = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end - 1) == (1e-6, 1500)
    assert (poly.power, poly.begin, poly.end - 1) == (1.0, 0, 160000)
    assert cfg.model.decode_head.channels == 512
    assert cfg.model.auxiliary_head.loss_decode.loss_weight == 0.4
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
    assert not cfg.model.backbone.get('window_size', 0)
    resize, crop = cfg.train_dataloader.dataset.pipeline[3:5]
    assert resize.scale == (2048, 512) and resize.ratio_range == (0.5, 2.0)
    assert crop.crop_size == (512, 512) and crop.cat_max_ratio == 0.75
    types = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert 'PhotoMetricDistortion' in types


def test_sample_configs_name_the_classes_of_the_generator():
    det = load('sample/mask_rcnn_vit_mpvg_sample.py').train_dataloader.dataset.metainfo
    seg = load('sample/upernet_vit_mpvg_sample.py').train_dataloader.dataset.metainfo
    assert tuple(det.classes) == SAMPLE_CLASSES
    assert tuple(map(tuple, det.palette)) == SAMPLE_PALETTE
    assert tuple(seg.classes) == SAMPLE_SEG_CLASSES
    assert tuple(map(tuple, seg.palette)) == SAMPLE_SEG_PALETTE

"""Segmenter's recipe against its own code: segm/{train,config.yml}, segm/{model,optim,data}."""

import copy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from timm.models import create_model

from mmpvg.checkpoints import PretrainedViT
from mmpvg.logs.schedule import learning_rate_curve

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'segmenter'
SIZES = {'t': (192, 3), 's': (384, 6)}

# config.yml, defaults of train.py, and what they call.
FIELDS = dict(
    n_layers=12,
    norm_eps={1e-5},  # nn.LayerNorm's default
    grid=(32, 32),  # 512 // 16, crop_size
    pe_resize='bilinear',
    patch_size=16,
    drop_path=0.1,
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, nesterov=True, weight_decay=0.0),
    amp=False,
    batch=8,
    poly=(0.9, 1e-5),
    window=('slide', (512, 512), (512, 512)),
    resize=((2048, 512), (0.5, 2.0)),
    crop=((512, 512), 0.75),
    steps=['RandomResize', 'RandomCrop', 'RandomFlip', 'PhotoMetricDistortion'],
    test_scale=(2048, 512),
)
MASK_DECODER = dict(layers=2, dropout=(0.1, 0.1), drop_path=0.0, norm_eps=1e-5)


@lru_cache
def read(decoder, size, delivery):
    """The leaf of a delivery, or that of MPVG with the options that the README gives."""
    name = 'segmenter-{}_vit-{}_{}_8xb1-160k_ade20k-512x512.py'
    leaf = CONFIGS / name.format(decoder, size, delivery)
    if leaf.exists():
        cfg = Config.fromfile(leaf)
    else:
        cfg = Config.fromfile(CONFIGS / name.format(decoder, size, 'mpvg'))
        cfg.merge_from_dict(
            {
                'model.backbone.pe_delivery': delivery,
                'model.backbone.with_cls_token': delivery in ('default', 'lape'),
            }
        )
    init_default_scope(cfg.default_scope)
    return cfg, MODELS.build(copy.deepcopy(cfg.model))


def fields(cfg, model):
    backbone, optimizer = model.backbone, dict(cfg.optim_wrapper.optimizer)
    pipeline = cfg.train_dataloader.dataset.pipeline
    steps = {step['type']: step for step in pipeline}
    around = ('LoadImageFromFile', 'LoadAnnotations', 'mmpvg.CheckLoaded', 'PackSegInputs')
    resize, crop = steps['RandomResize'], steps['RandomCrop']
    (poly,) = cfg.param_scheduler
    return dict(
        n_layers=len(backbone.blocks),
        norm_eps={m.eps for m in backbone.modules() if type(m).__name__ == 'LayerNorm'},
        grid=backbone.position_embedding.grid,
        pe_resize=backbone.position_embedding.interpolate_mode,
        patch_size=backbone.patch_embed.proj.kernel_size[0],
        drop_path=backbone.blocks[-1].drop_path.rate,
        optimizer=optimizer,
        amp=cfg.optim_wrapper.type == 'AmpOptimWrapper',
        batch=cfg.auto_scale_lr.base_batch_size,
        poly=(poly.power, poly.eta_min),
        window=tuple(cfg.model.test_cfg[key] for key in ('mode', 'crop_size', 'stride')),
        resize=(resize.scale, resize.ratio_range),
        crop=(crop.crop_size, crop.cat_max_ratio),
        steps=[name for name in steps if name not in around],
        test_scale=cfg.test_dataloader.dataset.pipeline[1].scale,
    )


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('decoder', ['mask', 'linear'])
def test_every_value_is_segmenters(decoder, size):
    cfg, model = read(decoder, size, 'default')
    assert fields(cfg, model) == FIELDS
    assert (model.backbone.embed_dims, model.backbone.arch.num_heads) == SIZES[size]
    assert cfg.train_cfg.max_iters == 160000
    head = model.decode_head
    if decoder == 'linear':
        assert {name for name, _ in head.named_parameters()} == {'conv_seg.weight', 'conv_seg.bias'}
        assert head.dropout is None and type(head.convs) is torch.nn.Identity
        return
    attentions = [layer.attn.attn for layer in head.layers]
    eps = {m.eps for m in head.modules() if type(m).__name__ == 'LayerNorm'}
    assert eps == {MASK_DECODER['norm_eps']} and len(attentions) == MASK_DECODER['layers']
    # The decoder is as wide as the encoder and has a head for 64 channels.
    assert {(a.embed_dim, a.num_heads) for a in attentions} == {SIZES[size]}
    settings = cfg.model.decode_head
    assert (settings.drop_rate, settings.attn_drop_rate) == MASK_DECODER['dropout']
    assert settings.drop_path_rate == MASK_DECODER['drop_path']


@pytest.mark.parametrize('size', SIZES)
def test_deliveries_differ_in_nothing_but_the_class_token(size):
    found = []
    for delivery in ('default', 'mpvg'):
        name = f'segmenter-mask_vit-{size}_{delivery}_8xb1-160k_ade20k-512x512.py'
        cfg = Config.fromfile(CONFIGS / name)
        assert cfg.model.backbone.pop('pe_delivery') == delivery
        # With one where it is published with one.
        with_cls_token = cfg.model.backbone.pop('with_cls_token', False)
        assert with_cls_token == (delivery == 'default')
        found.append(cfg.to_dict())
    assert all(cfg == found[0] for cfg in found)


def test_learning_rates_are_segmenters():
    """``PolynomialLR`` of segm/optim/scheduler.py, over our 160,000 iterations."""
    cfg, _ = read('mask', 't', 'default')
    curve = learning_rate_curve(cfg, [1e-3], points=160_000)
    rates = dict(zip(curve.iterations, curve.rates))
    for iteration in (0, 1, 749, 1500, 80_000, 159_999):
        expected = (1e-3 - 1e-5) * (1 - iteration / 160_000) ** 0.9 + 1e-5
        assert rates[iteration][0] == pytest.approx(expected, rel=1e-6), iteration


def test_deits_position_embedding_is_resized_once_and_bilinearly(tmp_path):
    """``checkpoint_filter_fn`` and ``resize_pos_embed`` of segm/model/utils.py."""
    deit = create_model('deit_tiny_patch16_224', depth=1)
    torch.nn.init.normal_(deit.pos_embed)
    file = tmp_path / 'deit.pth'
    torch.save({'model': deit.state_dict()}, file)
    cfg, _ = read('mask', 't', 'default')
    settings = copy.deepcopy(cfg.model.backbone)
    settings.update(arch=dict(embed_dims=192, num_layers=1, num_heads=3), init_cfg=None)
    backbone = MODELS.build(settings)
    PretrainedViT(str(file))(backbone)
    grid = deit.pos_embed[0, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(32, 32), mode='bilinear').permute(0, 2, 3, 1)
    table = backbone.position_embedding.table
    assert torch.allclose(table, expected, atol=1e-6)
    # At the crop's own size it is used as it is, after the class token's row.
    rows = backbone.deliver_pe((32, 32)).input
    assert torch.equal(rows[:, 1:], table.flatten(1, 2))
    assert torch.equal(rows[:, :1], deit.pos_embed[:, :1])

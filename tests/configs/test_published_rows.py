"""Every published dense row has one config, and its settings are the recipe's, field by field."""

import copy
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmpvg.logs.schedule import learning_rate_curve
from mmpvg.models.layers.pe_delivery import PE_DELIVERIES

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DELIVERIES = ('default', 'lape', 'pvg', 'mpvg')
COCO = 'mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco.py'
ADE20K = 'upernet/upernet_vit-adapter-t_mpvg_8xb1-160k_ade20k-512x512.py'

# docs/papers.md, section 1: ViT-Adapter-Ti, in both tables.
ADAPTER = {
    'interaction indexes': [(0, 2), (3, 5), (6, 8), (9, 11)],
    'conv_inplane': 64,
    'n_points': {4},
    'deform heads': {6},
    'cffn hidden': {48},
    'deform values': {192},
    'drop-path': 0.1,
    'drop-path of extractors': {0.1},
    'final norm': None,
    'arch': 'deit-tiny',
}
RECIPES = {
    COCO: {
        **ADAPTER,
        'optimizer': ('AdamW', 1e-4, 0.05),
        'total batch': 8,
        'epochs': 36,
        'steps': [27, 33],
        'warm-up': ('LinearLR', 0.001, 500),
        'layer decay': 1.0,
        'windows': {
            0: 14,
            1: 14,
            2: 0,
            3: 14,
            4: 14,
            5: 0,
            6: 14,
            7: 14,
            8: 0,
            9: 14,
            10: 14,
            11: 0,
        },
        'short sides': list(range(480, 801, 32)),
        'long side': {1333},
        'short sides before the crop': [400, 500, 600],
        'crop': (384, 600),
        'last crop': (1024, 1024),
        'test scale': (1333, 800),
        'neck': ('FPN', [192, 192, 192, 192], 256),
    },
    ADE20K: {
        **ADAPTER,
        'optimizer': ('AdamW', 12e-5, 0.01),
        'betas': (0.9, 0.999),
        'total batch': 8,
        'iterations': 160000,
        'poly power': 1.0,
        'warm-up': ('LinearLR', 1e-6, 1500),
        'layer decay': 0.95,
        'fp16': ('AmpOptimWrapper', {'init_scale': 512}),
        'windows': dict.fromkeys(range(12), 0),
        'resize': ((2048, 512), (0.5, 2.0)),
        'crop': ((512, 512), 0.75),
        'photometric distortion': True,
        'decode head': ('UPerHead', 512),
        'auxiliary head': ('FCNHead', 0.4),
        'slide test': ('slide', (512, 512), (341, 341)),
        'neck': None,
    },
}


@lru_cache
def read(name, delivery):
    cfg = Config.fromfile(CONFIGS / name)
    if delivery is not None:
        cfg.merge_from_dict({'model.backbone.pe_delivery': delivery})
    return cfg, MODELS.build(copy.deepcopy(cfg.model.backbone))


def load(name, delivery=None):
    """A config, in whose scope models are built from now on, and its backbone.

    A delivery that is named is the option that the READMEs give for it.
    """
    cfg, backbone = read(name, delivery)
    init_default_scope(cfg.default_scope)
    return cfg, backbone


def adapter_settings(cfg, backbone):
    extractors = [e for i in backbone.interactions for e in i.extractors]
    attentions = [i.injector.attn for i in backbone.interactions] + [e.attn for e in extractors]
    # mmengine's schedulers reach their end one iteration early.
    warmup = cfg.param_scheduler[0]
    return {
        'interaction indexes': backbone.interaction_indexes,
        'conv_inplane': backbone.spatial_prior.stem[0].out_channels,
        'n_points': {attention.num_points for attention in attentions},
        'deform heads': {attention.num_heads for attention in attentions},
        'cffn hidden': {extractor.mlp.fc1.out_features for extractor in extractors},
        'deform values': {attention.value_proj.out_features for attention in attentions},
        'drop-path': backbone.blocks[-1].drop_path.rate,
        'drop-path of extractors': {extractor.drop_path.rate for extractor in extractors},
        'final norm': backbone.norm,
        'arch': cfg.model.backbone.arch,
        'windows': {i: block.attn.window_size for i, block in enumerate(backbone.blocks)},
        'total batch': cfg.auto_scale_lr.base_batch_size,
        'optimizer': tuple(
            cfg.optim_wrapper.optimizer[key] for key in ('type', 'lr', 'weight_decay')
        ),
        'layer decay': cfg.optim_wrapper.get('paramwise_cfg', {}).get('layer_decay_rate', 1.0),
        'warm-up': (warmup.type, warmup.start_factor, warmup.end - 1),
    }


def coco_settings(cfg):
    _, _, _, _, choice, last_crop, _ = cfg.train_dataloader.dataset.pipeline
    plain, (before, crop, after) = choice.transforms
    assert after == plain[0], 'the scales after the crop are those without it'
    return {
        'epochs': cfg.train_cfg.max_epochs,
        'steps': cfg.param_scheduler[1].milestones,
        'short sides': [scale[0] for scale in plain[0].scales],
        'long side': {scale[1] for scale in (*plain[0].scales, *before.scales)},
        'short sides before the crop': [scale[0] for scale in before.scales],
        'crop': crop.crop_size,
        'last crop': last_crop.crop_size,
        'test scale': cfg.test_dataloader.dataset.pipeline[1].scale,
        'neck': tuple(cfg.model.neck[key] for key in ('type', 'in_channels', 'out_channels')),
    }


def ade20k_settings(cfg):
    resize, crop = cfg.train_dataloader.dataset.pipeline[3:5]
    types = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    head, auxiliary = cfg.model.decode_head, cfg.model.auxiliary_head
    return {
        'betas': tuple(cfg.optim_wrapper.optimizer.betas),
        'iterations': cfg.train_cfg.max_iters,
        'poly power': cfg.param_scheduler[1].power,
        'fp16': (cfg.optim_wrapper.type, cfg.optim_wrapper.loss_scale),
        'resize': (resize.scale, resize.ratio_range),
        'crop': (crop.crop_size, crop.cat_max_ratio),
        'photometric distortion': 'PhotoMetricDistortion' in types,
        'decode head': (head.type, head.channels),
        'auxiliary head': (auxiliary.type, auxiliary.loss_decode.loss_weight),
        'slide test': tuple(cfg.model.test_cfg[key] for key in ('mode', 'crop_size', 'stride')),
        'neck': cfg.model.neck,
    }


@pytest.mark.parametrize('delivery', DELIVERIES)
@pytest.mark.parametrize(
    ('name', 'field'), [(name, field) for name in RECIPES for field in RECIPES[name]]
)
def test_settings_are_the_recipes(name, field, delivery):
    cfg, backbone = load(name, delivery)
    settings = adapter_settings(cfg, backbone)
    settings |= coco_settings(cfg) if name == COCO else ade20k_settings(cfg)
    assert settings[field] == RECIPES[name][field]
    assert backbone.pe_delivery.plan == PE_DELIVERIES[delivery]


# docs/papers.md: published parameters in millions, of the default delivery.
PUBLISHED_MILLIONS = {
    COCO: 28,
    ADE20K: 36,
    'mask_rcnn/mask_rcnn_vit-adapter-s_mpvg_8xb2-ms-3x_coco.py': 48,
    'upernet/upernet_vit-adapter-s_mpvg_8xb2-160k_ade20k-512x512.py': 58,
}


@pytest.mark.parametrize(('name', 'millions'), PUBLISHED_MILLIONS.items())
def test_published_parameters_and_the_share_of_the_delivery(name, millions):
    counts = {}
    for delivery in DELIVERIES:
        cfg, _ = load(name, delivery)
        model = MODELS.build(copy.deepcopy(cfg.model))
        counts[delivery] = sum(p.numel() for p in model.parameters())
    assert round(counts['default'] / 1e6) == millions
    norm = 2 * model.backbone.embed_dims
    share = {delivery: count - counts['default'] for delivery, count in counts.items()}
    assert share == {'default': 0, 'lape': 12 * norm, 'pvg': 11 * norm, 'mpvg': 12 * norm}


def groups_of(name, delivery):
    cfg, _ = load(name, delivery)
    model = MODELS.build(copy.deepcopy(cfg.model))
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    # The groups are the same without mixed precision, which needs a GPU.
    wrapper.type = 'OptimWrapper'
    wrapper.pop('loss_scale', None)
    return cfg, model, build_optim_wrapper(model, wrapper).optimizer.param_groups


@pytest.mark.parametrize('delivery', DELIVERIES)
@pytest.mark.parametrize('recipe', RECIPES)
def test_optimizer_groups(recipe, delivery):
    cfg, model, groups = groups_of(recipe, delivery)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    of = {names[id(parameter)]: group for group in groups for parameter in group['params']}
    assert set(of) == {name for name, _ in model.named_parameters()}
    base, decay = cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay
    rate = RECIPES[recipe]['layer decay']
    for name, parameter in model.named_parameters():
        # No decay on PE, norms, biases and the level embedding; on COCO these are found by name.
        words = ['position_embedding', 'level_embed']
        free = recipe == ADE20K and parameter.ndim == 1
        words += ['norm', 'bias'] if recipe == COCO else []
        free |= any(word in name for word in words)
        assert of[name]['weight_decay'] == (0 if free else decay), name
        # Layer decay is that of the blocks and what comes before them; what is new has none.
        parts = name.split('.')
        height = 0
        if parts[0] == 'backbone':
            if parts[1] in ('position_embedding', 'patch_embed'):
                height = 13
            elif parts[1] == 'blocks':
                height = 12 - int(parts[2])
            elif parts[1:3] == ['pe_delivery', 'block_norms']:
                height = 12 - int(parts[3])
        assert of[name]['lr'] == pytest.approx(base * rate**height), name


def test_a_schedule_of_epochs_needs_their_length():
    cfg, _ = load(COCO)
    curve = learning_rate_curve(cfg, [1e-4], num_images=3200, points=36)
    assert curve.total == 36 * 400 and curve.epoch_length == 400
    with pytest.raises(ValueError, match='36 epochs; pass the number of its images'):
        learning_rate_curve(cfg, [1e-4])


def test_a_learning_rate_curve_has_every_group():
    cfg, _ = load(ADE20K)
    slow = 12e-5 * 0.95**13
    curve = learning_rate_curve(cfg, [12e-5, slow], points=320)
    assert curve.total == 160000 and curve.epoch_length is None
    assert len(curve.rates[0]) == 2
    for fast_rate, slow_rate in curve.rates:
        assert slow_rate == pytest.approx(fast_rate * 0.95**13)


def test_vitdets_recipe():
    cfg, backbone = load('vitdet/vitdet_vit-b_default_16xb4-lsj-100e_coco.py')
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.1)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.7
    assert cfg.train_cfg.max_iters == 184375 and cfg.auto_scale_lr.base_batch_size == 64
    warmup, steps = cfg.param_scheduler
    # mmengine's warm-up reaches its end one iteration early.
    assert (warmup.start_factor, warmup.end - 1) == (0.001, 250)
    # GradScaler's own start, as detectron2 has it.
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    assert steps.milestones == [163889, 177546] and not steps.by_epoch
    assert backbone.norm is None and backbone.blocks[-1].drop_path.rate == pytest.approx(0.1)
    tables = [block.attn.rel_pos.rows.shape[0] for block in backbone.blocks]
    assert tables == [127 if index in (2, 5, 8, 11) else 27 for index in range(12)]
    resize, crop = cfg.train_dataloader.dataset.pipeline[4:6]
    assert (resize.scale, resize.ratio_range) == ((1024, 1024), (0.1, 2.0))
    assert crop.crop_size == (1024, 1024)
    model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    image = torch.zeros(3, 600, 1024, dtype=torch.uint8)
    padded = model.data_preprocessor(dict(inputs=[image]))['inputs']
    assert padded.shape == (1, 3, 1024, 1024)
    norms = [m for m in model.modules() if type(m).__name__ == 'LayerNorm2d']
    # Box head 4, mask head 4, pyramid 2 a level and one between its transposed convolutions.
    assert len(norms) == 4 + 4 + 4 * 2 + 1 and {norm.eps for norm in norms} == {1e-6}

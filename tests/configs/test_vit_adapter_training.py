"""ViT-Adapter's optimizer groups and learning rates, by the rules of its code and of mmcv 1.x."""

import copy
import re
from functools import lru_cache
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmpvg.logs.schedule import learning_rate_curve

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
DETECTION = (
    'mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco',
    'mask_rcnn/mask_rcnn_vit-adapter-s_mpvg_8xb2-ms-3x_coco',
    'mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb2-1x_coco',
    'mask_rcnn/mask_rcnn_vit-adapter-s_mpvg_8xb2-1x_coco',
    'cascade_mask_rcnn/cascade_mask_rcnn_vit-adapter-s_mpvg_8xb2-ms-3x_coco',
)
SEGMENTATION = (
    'upernet/upernet_vit-adapter-t_mpvg_8xb1-160k_ade20k-512x512',
    'upernet/upernet_vit-adapter-s_mpvg_8xb2-160k_ade20k-512x512',
)


@lru_cache
def read(row):
    cfg = Config.fromfile(CONFIGS / f'{row}.py')
    init_default_scope(cfg.default_scope)
    return cfg, MODELS.build(copy.deepcopy(cfg.model))


def their_name(name):
    """Our parameter's name in their code."""
    for pattern, theirs in (
        (r'position_embedding\.table', 'pos_embed'),
        (r'\.ls([12])\.gamma', r'.gamma\1'),
        (r'spatial_prior\.', 'spm.'),
        (r'output_norms\.(\d)', lambda match: f'norm{int(match[1]) + 1}'),
    ):
        name = re.sub(pattern, theirs, name)
    return name


@lru_cache
def groups(row):
    """Name of every parameter -> its learning rate over the base, and whether it decays."""
    cfg, model = read(row)
    init_default_scope(cfg.default_scope)
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    # The groups are the same without mixed precision, which needs a GPU.
    wrapper.type = 'OptimWrapper'
    wrapper.pop('loss_scale', None)
    optimizer = build_optim_wrapper(model, wrapper).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group['lr'] / wrapper.optimizer.lr, group['weight_decay'] > 0)
        for group in optimizer.param_groups
        for p in group['params']
    }


@pytest.mark.parametrize('row', DETECTION)
def test_detection_decays_by_their_four_words(row):
    """``paramwise_cfg=dict(custom_keys=...)`` with a decay_mult of 0, in every detection file."""
    cfg, model = read(row)
    found = groups(row)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, (rate, decays) in found.items():
        words = ('level_embed', 'pos_embed', 'norm', 'bias')
        assert decays == (not any(word in their_name(name) for word in words)), name
        assert rate == 1
    one_dimensional = {name for name, p in model.backbone.named_parameters() if p.ndim == 1}
    decayed = [n for n in one_dimensional if found[f'backbone.{n}'][1]]
    # Gammas of LayerScale and injectors, and the six BatchNorms of the stem.
    layer_scales = 0 if 'adapter-t_mpvg_8xb2-1x' in row else 24
    assert len(decayed) == layer_scales + 4 + 6


@pytest.mark.parametrize('row', SEGMENTATION)
def test_segmentation_decays_by_their_constructor(row):
    """``LayerDecayOptimizerConstructor``: no decay on vectors and biases, rates by block.

    It means ``pos_embed`` to have none, and compares a name that starts with ``backbone.`` with it.
    """
    _, model = read(row)
    parameters = dict(model.named_parameters())
    found = groups(row)
    assert set(found) == set(parameters)
    for name, (rate, decays) in found.items():
        theirs = their_name(name)
        layer = 13
        if theirs == 'backbone.pos_embed' or theirs.startswith('backbone.patch_embed'):
            layer = 0
        elif theirs.startswith('backbone.blocks'):
            layer = int(theirs.split('.')[2]) + 1
        elif 'pe_delivery.block_norms' in theirs:
            layer = int(theirs.split('.')[3]) + 1  # MPVG's own: with its block
        assert rate == pytest.approx(0.95 ** (13 - layer)), name
        slips = theirs in ('backbone.pos_embed', 'backbone.level_embed')
        assert decays == (parameters[name].ndim > 1 and not slips), name


def warmed_up(regular, iteration, length, ratio):
    """mmcv 1.x, ``LrUpdaterHook``: a linear warm-up, multiplied over the rate of its policy."""
    if iteration >= length:
        return regular
    return regular * (1 - (1 - iteration / length) * (1 - ratio))


@pytest.mark.parametrize('row', SEGMENTATION)
def test_poly_is_mmcvs(row):
    """Policy poly of power 1 down to 0 counts from the first iteration, under the warm-up too."""
    cfg, _ = read(row)
    base = cfg.optim_wrapper.optimizer.lr
    curve = learning_rate_curve(cfg, [base], points=160_000)
    rates = dict(zip(curve.iterations, curve.rates))
    for iteration in (0, 1, 749, 1499, 1500, 80_000, 159_999):
        poly = (base - 0.0) * (1 - iteration / 160_000) ** 1.0 + 0.0
        expected = warmed_up(poly, iteration, 1500, 1e-6)
        assert rates[iteration][0] == pytest.approx(expected, rel=1e-6), iteration


@pytest.mark.parametrize('row', DETECTION)
def test_steps_are_mmcvs(row):
    cfg, _ = read(row)
    base = cfg.optim_wrapper.optimizer.lr
    steps, epochs = ([8, 11], 12) if '1x' in row else ([27, 33], 36)
    # Epochs of 400 iterations, so that the warm-up reaches into the second.
    images = 400 * cfg.auto_scale_lr.base_batch_size
    curve = learning_rate_curve(cfg, [base], images, points=epochs * 400)
    rates = dict(zip(curve.iterations, curve.rates))
    changes = [400 * step for step in steps]
    for iteration in (0, 1, 250, 499, 500, *(i - 1 for i in changes), *changes, 400 * epochs - 1):
        step = base * 0.1 ** sum(iteration // 400 >= step for step in steps)
        expected = warmed_up(step, iteration, 500, 0.001)
        assert rates[iteration][0] == pytest.approx(expected, rel=1e-6), iteration

"""Pooling neck: the paper's equation, mmpretrain's GeM, extreme values, a whole classifier."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from mmpvg.models import MPVGViT, TokenPooling

ARCH = dict(embed_dims=12, num_layers=2, num_heads=3)


def equation(feature, exponents, eps=1e-6):
    """docs/papers.md section 2, in numpy's float64, for a map of shape (B, C, H, W)."""
    feature = np.maximum(feature.double().numpy(), eps)
    channels = feature.shape[1]
    p = np.repeat(exponents, channels // len(exponents))[None, :]
    powers = feature.reshape(*feature.shape[:2], -1) ** p[..., None]
    return powers.mean(axis=2) ** (1 / p)


@pytest.mark.parametrize('groups', [1, 3, 4, 12])
@pytest.mark.parametrize('shape', [(7, 7), (9, 17)])
def test_ggem_is_the_papers_equation(groups, shape):
    neck = TokenPooling('ggem', in_channels=12, groups=groups)
    exponents = np.linspace(1, 7, groups)
    neck.pool.p.data = torch.tensor(exponents, dtype=torch.float32)
    feature = torch.randn(2, 12, *shape)
    (pooled,) = neck((feature,))
    assert np.allclose(pooled.detach().numpy(), equation(feature, exponents), rtol=1e-4)


def test_average_is_the_mean():
    feature = torch.randn(2, 12, 5, 8)
    assert torch.allclose(TokenPooling()((feature,))[0], feature.mean(dim=(2, 3)), atol=1e-6)


def test_gem_is_upstreams():
    from mmpretrain.models import GeneralizedMeanPooling

    feature = torch.randn(2, 12, 5, 8)
    ours, theirs = TokenPooling('gem', 12, p=2.5), GeneralizedMeanPooling(p=2.5)
    assert torch.allclose(ours((feature,))[0], theirs((feature,))[0], atol=1e-5)


def test_one_exponent_a_head_and_one_vector_a_map():
    neck = TokenPooling('ggem', in_channels=ARCH, groups='heads')
    assert neck.pool.p.shape == (3,) and torch.equal(neck.pool.p, torch.full((3,), 3.0))
    assert TokenPooling('ggem', 'deit-small').pool.p.shape == (6,)
    assert TokenPooling('gem', ARCH, groups=4).pool.p.shape == (1,)
    maps = [torch.rand(2, 12, 4, 4), torch.rand(2, 12, 2, 3)]
    assert [tuple(vector.shape) for vector in neck(maps)] == [(2, 12), (2, 12)]
    assert torch.equal(neck(maps[0])[0], neck(maps)[0])


@pytest.mark.parametrize('p', [1.0, 3.0, 30.0, 100.0])
@pytest.mark.parametrize(
    'values', [-1.0, 0.0, 1e30, -1e30, 1e-30], ids=['negative', 'zero', 'huge', 'low', 'small']
)
def test_no_value_gives_nan(p, values):
    neck = TokenPooling('ggem', ARCH, p=p)
    feature = (torch.rand(2, 12, 3, 5) + 1) * values
    feature[:, :, 0, 0] += 0.1
    feature.requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        (pooled,) = neck((feature,))
    assert pooled.dtype == torch.float32
    (pooled / pooled.detach().abs().max()).sum().backward()
    assert pooled.isfinite().all()
    assert feature.grad.isfinite().all() and neck.pool.p.grad.isfinite().all()


def test_fixed_exponents_are_no_parameters_but_are_saved():
    neck = TokenPooling('gem', 12, p=5.0, learnable=False)
    assert not list(neck.parameters())
    assert neck.state_dict()['pool.p'].item() == 5.0


@pytest.mark.parametrize('pooling', ['average', 'gem', 'ggem'])
@pytest.mark.parametrize('cls_token', [True, False])
def test_in_a_classifier_every_parameter_is_used(pooling, cls_token):
    torch.manual_seed(0)
    classifier = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
            backbone=dict(type='mmpvg.MPVGViT', arch=ARCH, img_size=32, with_cls_token=cls_token),
            neck=dict(type='mmpvg.TokenPooling', pooling=pooling, in_channels=ARCH),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=12),
        )
    )
    classifier(torch.randn(2, 3, 40, 64)).square().sum().backward()
    without = [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(pooling='max'), "'max'.*average, gem, ggem"),
        (dict(pooling='gem'), "'gem' needs in_channels"),
        (dict(pooling='ggem', in_channels=12), "groups='heads' must be a number.*got 12"),
        (dict(pooling='ggem', in_channels=12, groups=5), '12 channels.*5 groups'),
        (dict(pooling='ggem', in_channels=ARCH, p=0.5), 'p=0.5'),
        (dict(pooling='ggem', in_channels='deit-huge'), "'deit-huge'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TokenPooling(**arguments)


def test_a_norm_after_the_pooling():
    torch.manual_seed(0)
    neck = TokenPooling('ggem', ARCH, norm=True)
    feature = torch.rand(2, 12, 5, 8)
    pooled = TokenPooling('ggem', ARCH)(feature)[0]
    centered = pooled - pooled.mean(1, keepdim=True)
    expected = centered / (centered.square().mean(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(neck(feature)[0], expected)
    with pytest.raises(ValueError, match='norm=True needs in_channels'):
        TokenPooling(norm=True)


@pytest.mark.parametrize('size', [(64, 64), (48, 80)])
def test_pooling_before_the_norm_is_timms_vit_relpos(size):
    """GAB's base models, with the neck's norm in the place of their fc_norm."""
    torch.manual_seed(0)
    arch = dict(embed_dims=48, num_layers=2, num_heads=3)
    oracle = VisionTransformerRelPos(
        img_size=size, num_classes=7, embed_dim=48, depth=2, num_heads=3, init_values=0.1,
        qkv_bias=False, fc_norm=True, rel_pos_dim=128,
    ).eval()  # fmt: skip
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    options = dict(relative_position='mlp', qkv_bias=False, layer_scale_init_value=0.1)
    vit = MPVGViT(arch, pe_type=None, final_norm=False, **options).eval()
    neck, state = TokenPooling(in_channels=arch, norm=True), oracle.state_dict()
    ours = {name: state.pop(name) for name in vit.state_dict()}
    vit.load_state_dict(ours)
    neck.norm.load_state_dict({part: state.pop(f'fc_norm.{part}') for part in ('weight', 'bias')})
    assert {name.split('.')[0] for name in state if 'relative_coords' not in name} == {'head'}
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        logits = oracle.head(neck(vit(image))[0])
        torch.testing.assert_close(logits, oracle(image), atol=1e-4, rtol=1e-4)

"""Parameter groups: each parameter once, at its depth, with the decay it should have."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from mmpvg.engine.optimizers.param_groups import param_group_rows
from mmpvg.models import MPVGViT, SimpleFeaturePyramid
from mmpvg.utils.errors import UserError

TINY = dict(embed_dims=48, num_layers=4, num_heads=3)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = MPVGViT(TINY, with_cls_token=True)
        self.neck = SimpleFeaturePyramid(TINY, out_channels=8)
        self.head = nn.Conv2d(8, 2, 1)


def build(model, **paramwise):
    cfg = dict(
        constructor='mmpvg.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    )
    if paramwise:
        cfg['paramwise_cfg'] = paramwise
    return build_optim_wrapper(model, cfg).optimizer


def by_name(optimizer):
    return {name: group for group in optimizer.param_groups for name in group['param_names']}


@pytest.mark.parametrize('paramwise', [{}, dict(layer_decay_rate=0.9)])
def test_every_parameter_is_in_exactly_one_group(paramwise):
    model = Detector()
    optimizer = build(model, **paramwise)
    grouped = [p for group in optimizer.param_groups for p in group['params']]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for p in model.parameters()}
    assert set(by_name(optimizer)) == {name for name, _ in model.named_parameters()}


def test_learning_rate_falls_with_depth():
    groups = by_name(build(Detector(), layer_decay_rate=0.9))
    lr = {name: group['lr'] for name, group in groups.items()}
    # 6 depths: the stem, 4 blocks, and the last norm with all that follows.
    for name, height in [
        ('head.weight', 0),
        ('neck.levels.0.0.weight', 0),
        ('backbone.norm.weight', 0),
        ('backbone.pe_delivery.last_norm.weight', 0),
        ('backbone.blocks.3.attn.qkv.weight', 1),
        ('backbone.pe_delivery.block_norms.3.bias', 1),
        ('backbone.blocks.0.mlp.fc1.bias', 4),
        ('backbone.pe_delivery.block_norms.1.weight', 3),
        ('backbone.position_embedding.table', 5),
        ('backbone.patch_embed.proj.weight', 5),
    ]:
        assert lr[name] == pytest.approx(1e-3 * 0.9**height), name


def test_weight_decay_spares_pe_norms_and_biases():
    model = Detector()
    groups = by_name(build(model))
    decayed = {name for name, group in groups.items() if group['weight_decay'] == 0.05}
    spared = {name for name, group in groups.items() if group['weight_decay'] == 0}
    assert decayed | spared == set(groups)
    matrices = {
        name
        for name, p in model.named_parameters()
        if p.ndim > 1 and 'position_embedding' not in name and 'cls_token' not in name
    }
    assert decayed == matrices
    assert {g['lr'] for g in groups.values()} == {1e-3}, 'no layer decay unless asked for'
    assert len({id(group) for group in groups.values()}) == 2


def test_frozen_parameters_are_left_out():
    model = Detector()
    model.backbone.patch_embed.requires_grad_(False)
    assert 'backbone.patch_embed.proj.weight' not in by_name(build(model))


def test_frozen_stages_are_left_out():
    model = Detector()
    model.backbone = MPVGViT(TINY, with_cls_token=True, frozen_stages=2)
    groups = by_name(build(model, layer_decay_rate=0.5))
    assert set(groups) == {name for name, p in model.named_parameters() if p.requires_grad}
    parts = {name.split('.')[2] for name in groups if name.startswith('backbone.blocks.')}
    assert parts == {'2', '3'}
    assert groups['backbone.blocks.2.norm1.weight']['lr'] == pytest.approx(1e-3 * 0.5**2)


@pytest.mark.parametrize('rate', [1.0, 0.5])
def test_custom_keys(rate):
    keys = {
        'head': dict(lr_mult=10.0, decay_mult=0.0),
        'blocks': dict(lr_mult=0.1),
        'blocks.3.attn': dict(decay_mult=2.0),
        'position_embedding': dict(lr_mult=3.0, decay_mult=1.0),
    }
    groups = by_name(build(Detector(), layer_decay_rate=rate, custom_keys=keys))
    # Learning rate and weight decay of 1e-3 and 0.05, of 6 depths.
    for name, lr, weight_decay in [
        ('head.weight', 1e-2, 0.0),
        ('head.bias', 1e-2, 0.0),
        ('neck.levels.0.0.weight', 1e-3, 0.05),
        ('backbone.norm.weight', 1e-3, 0.0),
        ('backbone.blocks.3.mlp.fc1.weight', 1e-4 * rate, 0.05),
        ('backbone.blocks.3.mlp.fc1.bias', 1e-4 * rate, 0.0),
        # The longest key alone: not the lr_mult of 'blocks'.
        ('backbone.blocks.3.attn.qkv.weight', 1e-3 * rate, 0.1),
        ('backbone.blocks.3.attn.qkv.bias', 1e-3 * rate, 0.0),
        ('backbone.blocks.1.attn.qkv.weight', 1e-4 * rate**3, 0.05),
        ('backbone.pe_delivery.block_norms.3.weight', 1e-3 * rate, 0.0),
        ('backbone.position_embedding.table', 3e-3 * rate**5, 0.0),
        ('backbone.patch_embed.proj.weight', 1e-3 * rate**5, 0.05),
    ]:
        found = groups[name]['lr'], groups[name]['weight_decay']
        assert found == pytest.approx((lr, weight_decay)), name
        assert groups[name]['lr_scale'] == pytest.approx(lr / 1e-3)
    assert set(groups) == {name for name, _ in Detector().named_parameters()}


def test_of_two_keys_of_one_length_the_first_by_alphabet_holds_as_in_mmengine():
    keys = dict(proj=dict(lr_mult=2.0), attn=dict(lr_mult=5.0))
    model = Detector()
    ours = by_name(build(model, custom_keys=keys))
    cfg = dict(optimizer=dict(type='AdamW', lr=1e-3), paramwise_cfg=dict(custom_keys=keys))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in build_optim_wrapper(model, cfg).optimizer.param_groups:
        (parameter,) = group['params']
        assert ours[names[id(parameter)]]['lr'] == pytest.approx(group['lr'])
    assert ours['backbone.blocks.0.attn.proj.weight']['lr'] == pytest.approx(5e-3)


def test_a_decay_mult_needs_a_weight_decay():
    cfg = dict(
        constructor='mmpvg.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3),
        paramwise_cfg=dict(custom_keys=dict(head=dict(decay_mult=0.0))),
    )
    with pytest.raises(UserError, match=r"custom_keys\['head'\].*set weight_decay in optimizer"):
        build_optim_wrapper(Detector(), cfg)


def test_backbone_alone():
    groups = by_name(build(MPVGViT(TINY), layer_decay_rate=0.5))
    assert groups['patch_embed.proj.weight']['lr'] == pytest.approx(1e-3 * 0.5**5)


def classifier(**kwargs):
    return MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
            backbone=dict(type='mmpvg.MPVGViT', arch=TINY, **kwargs),
            neck=dict(type='mmpvg.TokenPooling', pooling='ggem', in_channels=TINY),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=48),
        )
    )


def test_a_classifier_and_a_retriever():
    groups = by_name(build(classifier(), layer_decay_rate=0.5))
    assert groups['backbone.blocks.3.norm1.weight']['lr'] == pytest.approx(5e-4)
    assert groups['head.fc.weight']['lr'] == groups['neck.pool.p']['lr'] == pytest.approx(1e-3)
    assert groups['neck.pool.p']['weight_decay'] == 0
    retriever = MODELS.build(
        dict(
            type='mmpretrain.ImageToImageRetriever',
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
            image_encoder=[dict(type='mmpvg.MPVGViT', arch=TINY)],
            prototype=torch.zeros(3, 48),
        )
    )
    groups = by_name(build(retriever, layer_decay_rate=0.5))
    assert groups['image_encoder.0.blocks.0.norm1.weight']['lr'] == pytest.approx(1e-3 * 0.5**4)


def test_mmpretrains_own_constructor_gives_the_same_learning_rates():
    model = classifier()
    ours = {n: g['lr'] for n, g in by_name(build(model, layer_decay_rate=0.7)).items()}
    cfg = dict(
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        paramwise_cfg=dict(layer_decay_rate=0.7),
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    theirs = {
        names[id(parameter)]: group['lr']
        for group in build_optim_wrapper(model, cfg).optimizer.param_groups
        for parameter in group['params']
    }
    assert theirs == pytest.approx(ours)


def test_lora_in_a_wrapped_backbone():
    """mmpretrain's LoRAModel trains low-rank matrices alone, at the depths of their blocks."""
    lora = dict(type='LoRAModel', rank=2, targets=[dict(type='qkv'), dict(type='.*fc1')])
    model = classifier()
    inner = dict(type='mmpvg.MPVGViT', arch=TINY)
    model.backbone = MODELS.build({**lora, 'type': 'mmpretrain.LoRAModel', 'module': inner})
    groups = by_name(build(model, layer_decay_rate=0.5))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(groups) == trained
    inside = {name for name in trained if name.startswith('backbone.')}
    assert len(inside) == 4 * 2 * 2 and all('.lora_' in name for name in inside)
    for name in inside:
        assert groups[name]['lr'] == pytest.approx(1e-3 * 0.5 ** (4 - int(name.split('.')[3])))
    assert groups['head.fc.weight']['lr'] == pytest.approx(1e-3)
    rows = param_group_rows(model, build(model, layer_decay_rate=0.5))
    assert {row.depth for row in rows if row.lr is None} == {0, 1, 2, 3, 4, 5}, 'the frozen ones'


def test_layers_that_were_replaced_inside_the_backbone():
    """As peft does it: the original layer moves one level down."""

    class Adapted(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.base_layer = layer.requires_grad_(False)
            self.lora_A = nn.Linear(layer.in_features, 2, bias=False)
            self.lora_B = nn.Linear(2, layer.out_features, bias=False)

        def forward(self, x):
            return self.base_layer(x) + self.lora_B(self.lora_A(x))

    model = Detector()
    for block in model.backbone.blocks:
        block.attn.proj = Adapted(block.attn.proj)
    groups = by_name(build(model, layer_decay_rate=0.5))
    assert groups['backbone.blocks.1.attn.proj.lora_A.weight']['lr'] == pytest.approx(1e-3 * 0.5**3)
    assert 'backbone.blocks.1.attn.proj.base_layer.weight' not in groups
    assert model.backbone(torch.randn(1, 3, 64, 64))[0].shape == (1, 48, 4, 4)


def test_nothing_to_train_is_refused():
    model = MPVGViT(TINY).requires_grad_(False)
    with pytest.raises(ValueError, match='MPVGViT has no parameter to train'):
        build(model)


def test_two_backbones_are_refused():
    both = nn.ModuleDict(dict(student=MPVGViT(TINY), teacher=MPVGViT(TINY)))
    with pytest.raises(ValueError, match='several backbones.*student., teacher.'):
        build(both, layer_decay_rate=0.9)
    assert len(by_name(build(both))) == len(list(both.parameters())), 'without decay they may be'


def test_it_trains():
    model = MPVGViT(TINY)
    optimizer = build(model, layer_decay_rate=0.9)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.randn(1, 3, 64, 48))[0].square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ('model', 'paramwise', 'message'),
    [
        (Detector, dict(norm_decay_mult=0.0), 'norm_decay_mult'),
        (Detector, dict(custom_keys=['head']), r"custom_keys must be a dict.*\['head'\]"),
        (Detector, dict(custom_keys=dict(head=10.0)), r"custom_keys\['head'\].*got 10.0"),
        (Detector, dict(custom_keys=dict(head=dict(lr=1.0))), r"custom_keys\['head'\].*'lr': 1.0"),
        (Detector, dict(custom_keys=dict(head=dict(lr_mult=-1))), 'at least 0.*-1'),
        (
            Detector,
            dict(custom_keys={'head': {}, 'heat': {}, 'pos_embed': {}}),
            "'pos_embed', 'heat' match no parameter of Detector.*'head.bias'",
        ),
        (Detector, dict(layer_decay_rate=1.5), '1.5'),
        (lambda: nn.Linear(2, 2), dict(layer_decay_rate=0.9), 'get_layer_depth.*Linear'),
    ],
)
def test_bad_settings(model, paramwise, message):
    with pytest.raises(UserError, match=message):
        build(model(), **paramwise)

"""frozen_stages: what is frozen is unchanged by training, and everything else is trained."""

import copy
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS

from mmpvg.checkpoints import PretrainedViT
from mmpvg.models import MPVGViT, MPVGViTAdapter
from mmpvg.timm_models import TimmMPVGViT
from mmpvg.utils.errors import UserError

ARCH = dict(embed_dims=24, num_layers=4, num_heads=3)
SIZE = dict(img_size=32, patch_size=8)
STEM = {'patch_embed', 'position_embedding', 'cls_token', 'register_tokens'}


def build(frozen_stages, **options):
    torch.manual_seed(0)
    vit = MPVGViT(ARCH, **SIZE, frozen_stages=frozen_stages, **options)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return vit


def should_be_frozen(name, stages):
    """The rule of the docstring, by the name of a parameter in a network of four blocks."""
    parts = name.split('.')
    if parts[0] in STEM:
        return stages >= 0
    if parts[0] == 'blocks':
        return int(parts[1]) < stages
    if parts[:2] == ['pe_delivery', 'block_norms']:
        return int(parts[2]) < stages
    if parts[0] == 'norm' or parts[:2] == ['pe_delivery', 'last_norm']:
        return stages == 4
    return False


def step(model, size=(40, 48)):
    """One step of SGD on the squares of the outputs; the parameters that it changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    outputs = model(torch.randn(2, 3, *size))
    sum(output.square().sum() for output in outputs).backward()
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    return {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}


OPTIONS = [
    dict(pe_delivery='mpvg'),
    dict(pe_delivery='lape', with_cls_token=True, num_registers=2, layer_scale_init_value=0.5),
    dict(pe_delivery=dict(base='mpvg', hierarchical=False, last_norm=1), with_cp=True),
    dict(pe_type=None, relative_position='mlp', gaussian_bias='head'),
    dict(window_size=3, relative_position='decomposed', with_cp=True),
]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('stages', [-1, 0, 1, 3])
def test_frozen_parameters_stay_and_all_others_train(stages, options):
    vit = build(stages, **options).train()
    frozen = {name for name, p in vit.named_parameters() if should_be_frozen(name, stages)}
    assert bool(frozen) == (stages >= 0)
    assert step(vit) == {name for name, _ in vit.named_parameters()} - frozen
    for name, parameter in vit.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == (name not in frozen)


@pytest.mark.parametrize('with_cp', [False, True])
def test_a_network_that_is_frozen_whole(with_cp):
    vit = build(4, drop_path_rate=0.9, with_cp=with_cp, with_cls_token=True, out_indices=(1, 3))
    assert not any(parameter.requires_grad for parameter in vit.parameters())
    image = torch.randn(3, 3, 40, 48)
    found = vit.train()(image)
    for output, expected in zip(found, vit.eval()(image)):
        assert torch.equal(output, expected) and not output.requires_grad
    # A head on it trains all the same.
    head = torch.nn.Conv2d(24, 2, 1)
    head(vit.train()(image)[-1]).sum().backward()
    assert head.weight.grad.any()


@pytest.mark.parametrize('stages', [-1, 0, 2, 4])
def test_frozen_parts_are_in_eval_mode_and_stay_so(stages):
    vit = build(stages, drop_path_rate=0.5)
    for model in (vit, vit.train(), vit.eval().train(), copy.deepcopy(vit)):
        assert model.training
        assert [block.training for block in model.blocks] == [i >= stages for i in range(4)]
        assert [block.drop_path.training for block in model.blocks] == [
            i >= stages for i in range(4)
        ]
        assert model.patch_embed.training == (stages < 0)
        assert model.norm.training == model.pe_delivery.last_norm.training == (stages < 4)
    assert not any(module.training for module in vit.eval().modules())


def test_stochastic_depth_is_off_in_frozen_blocks_alone():
    image = torch.randn(2, 3, 40, 48)
    for stages, alike in ((3, True), (2, False)):
        # Block 2 is the last; its rate is 0.6.
        vit = build(stages, drop_path_rate=0.9, out_indices=2).train()
        passes = [vit(image)[0] for _ in range(12)]
        assert all(torch.equal(passes[0], other) for other in passes) == alike


def test_blocks_after_the_last_tap_may_be_counted():
    """The limit is the depth of the arch, for any out_indices."""
    vit = build(4, out_indices=1)
    assert not any(parameter.requires_grad for parameter in vit.parameters())
    assert len(vit.blocks) == 2


def test_the_norms_of_a_frozen_table_train_in_blocks_that_do():
    vit = build(2, pe_delivery='mpvg')
    changed = step(vit)
    assert not vit.position_embedding.table.requires_grad
    norms = {name.split('.')[2] for name in changed if name.startswith('pe_delivery.block_norms')}
    assert norms == {'2', '3'} and 'pe_delivery.last_norm.weight' in changed


@pytest.mark.parametrize(
    ('stages', 'vit_maps', 'with_cp'), [(0, 'each', False), (2, 'each', True), (4, 'last', False)]
)
def test_the_adapter_trains_around_frozen_blocks(stages, vit_maps, with_cp):
    torch.manual_seed(0)
    model = MPVGViTAdapter(
        ARCH,
        img_size=32,
        conv_channels=8,
        norm_cfg=dict(type='BN'),
        frozen_stages=stages,
        vit_maps=vit_maps,
        with_cp=with_cp,
    ).train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    frozen = {name for name, p in model.named_parameters() if should_be_frozen(name, stages)}
    assert step(model, (64, 96)) == {name for name, _ in model.named_parameters()} - frozen
    assert all(p.requires_grad == (p.grad is not None) for p in model.parameters())
    adapter = [model.spatial_prior, *model.interactions, model.up, *model.output_norms]
    assert all(module.training for part in adapter for module in part.modules())


def test_the_timm_form_keeps_its_head():
    model = TimmMPVGViT(num_classes=5, arch=ARCH, **SIZE, frozen_stages=4)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {'head.weight', 'head.bias'}


def test_pretrained_weights_go_into_frozen_parts(tmp_path):
    source = build(-1, pe_delivery='default')
    torch.save(source.state_dict(), tmp_path / 'vit.pth')
    init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint=str(tmp_path / 'vit.pth'))
    cfg = dict(type='mmpvg.MPVGViT', arch=ARCH, **SIZE, frozen_stages=2, init_cfg=init_cfg)
    vit = MODELS.build(cfg)
    vit.init_weights()
    PretrainedViT(str(tmp_path / 'vit.pth'))(vit)
    loaded = dict(vit.named_parameters())
    for name, value in source.named_parameters():
        assert torch.equal(loaded[name], value)
        assert loaded[name].requires_grad != should_be_frozen(name, 2), name


def logged_warnings(function, *args):
    """What is logged as a warning while a function runs."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        function(*args)
    finally:
        logger.removeHandler(handler)
    return [record.getMessage() for record in records]


@pytest.mark.parametrize(('stages', 'stuck'), [(-1, 0), (1, 0), (3, 4), (4, 8)])
def test_new_pe_norms_that_are_frozen_are_warned_of(tmp_path, stages, stuck):
    source = build(-1, pe_delivery='default')
    torch.save(source.state_dict(), tmp_path / 'vit.pth')
    warnings = logged_warnings(PretrainedViT(str(tmp_path / 'vit.pth')), build(stages))
    assert len(warnings) == bool(stuck)
    for message in warnings:
        assert message.startswith(f'{stuck} tensors that ') and f'frozen_stages={stages}' in message
        assert 'pe_delivery.block_norms.1.weight' in message
    # With the norms in the file there is nothing to warn of.
    torch.save(build(-1).state_dict(), tmp_path / 'vit.pth')
    assert not logged_warnings(PretrainedViT(str(tmp_path / 'vit.pth')), build(stages))


@pytest.mark.parametrize('stages', [-2, 5, None, '2', 1.5])
def test_a_number_that_is_none_is_refused(stages):
    with pytest.raises(UserError, match=rf'frozen_stages={stages!r} must be -1.*4 blocks'):
        build(stages)

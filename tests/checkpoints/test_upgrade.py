"""Starting from a ViT of another project: what changes, what is refused, what is reported."""

import pytest
import torch
from mmengine.model import BaseModule

from mmpvg.checkpoints import (
    PretrainedViT,
    Weights,
    backbone_arguments,
    fit,
    read_weights,
    recognise,
)
from mmpvg.models import MPVGViT


@pytest.fixture
def deit(make_timm, tmp_path):
    model = make_timm()
    file = tmp_path / 'deit.pth'
    torch.save({'model': model.state_dict()}, file)
    return model, str(file)


def difference(vit, expected, size=(64, 64)):
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return (vit(image)[0] - expected(image)).abs().max().item()


@pytest.mark.parametrize('delivery', ['pvg', 'mpvg', dict(base='mpvg', first_block=0)])
def test_the_upgrade_changes_nothing_at_first(deit, make_vit, oracle, delivery):
    model, file = deit
    vit = make_vit(pe_delivery=delivery)
    report = PretrainedViT(file)(vit)
    for size in [(64, 64), (96, 48)]:
        assert difference(vit, lambda image: oracle(model, image), size) < 1e-5
    assert 'they change nothing until trained' in str(report)
    assert all('pe_delivery' in name for name in report.new)


def test_new_pe_norms_open_while_training(deit, make_vit):
    _, file = deit
    vit = make_vit(pe_delivery='mpvg').train()
    PretrainedViT(file)(vit)
    norms = vit.pe_delivery
    assert not any(parameter.any() for parameter in norms.parameters())
    optimizer = torch.optim.AdamW(vit.parameters(), lr=1e-3)
    image, target = torch.randn(4, 3, 64, 64), torch.randn(4, 48, 4, 4)
    losses = []
    for _ in range(10):
        loss = (vit(image)[0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, parameter in norms.named_parameters():
        assert parameter.all() and parameter.isfinite().all(), name


def test_lape_starts_without_a_position_embedding_and_says_so(deit, make_vit, oracle):
    model, file = deit
    vit = make_vit(pe_delivery='lape')
    report = PretrainedViT(file)(vit)
    assert difference(vit, lambda image: oracle(model, image)) > 1e-2
    assert 'the network is not the source at first' in str(report)
    # It is the source without its table.
    torch.nn.init.zeros_(model.pos_embed)
    assert difference(vit, lambda image: oracle(model, image)) < 1e-5
    PretrainedViT(file, pe_norms='one')(vit)
    assert vit.pe_delivery.block_norms['0'].weight.eq(1).all()


def test_through_init_cfg_in_a_whole_model(deit):
    """As a detector does it: init_weights of the model reaches the backbone."""
    _, file = deit

    class Detector(BaseModule):
        def __init__(self):
            super().__init__()
            init = dict(type='mmpvg.PretrainedViT', checkpoint=file)
            arch = dict(embed_dims=48, num_layers=3, num_heads=3)
            self.backbone = MPVGViT(arch, img_size=64, window_size=2, init_cfg=init)
            self.head = torch.nn.Linear(3, 3)

    detector = Detector()
    detector.init_weights()
    content = torch.load(file, weights_only=True)['model']
    assert torch.equal(
        detector.backbone.blocks[2].mlp.fc2.weight, content['blocks.2.mlp.fc2.weight']
    )


def test_patch_kernel_and_table_of_other_sizes(deit, make_vit):
    model, file = deit
    vit = make_vit(patch_size=8, img_size=(64, 40))
    report = PretrainedViT(file)(vit)
    assert set(report.resized) == {'patch_embed.proj.weight', 'position_embedding.table'}
    assert report.resized['patch_embed.proj.weight'] == '16x16 -> 8x8 pixels'
    assert report.resized['position_embedding.table'] == '4x4 -> 8x5 patches, bicubic'
    expected = torch.nn.functional.interpolate(
        model.pos_embed.data[:, 1:].view(1, 4, 4, 48).permute(0, 3, 1, 2), (8, 5), mode='bicubic'
    )
    assert torch.allclose(vit.position_embedding.table.permute(0, 3, 1, 2), expected)


def test_a_grid_that_is_not_square_is_told(make_timm, make_vit, oracle, tmp_path):
    model = make_timm((32, 128))  # 2x8 patches: 16, as 4x4 are
    file = tmp_path / 'wide.pth'
    torch.save(model.state_dict(), file)
    vit = make_vit(img_size=(32, 128))
    with pytest.raises(ValueError, match=r'2 ways \(1 \+ 4x4 or 1 \+ 2x8\)'):
        PretrainedViT(str(file))(vit)
    PretrainedViT(str(file), grid=(2, 8))(vit)
    assert difference(vit, lambda image: oracle(model, image), (32, 128)) < 1e-4
    assert difference(vit, lambda image: oracle(model, image), (64, 64)) < 1e-4


def test_fewer_blocks_are_built_than_the_source_has(deit, make_vit):
    _, file = deit
    vit = make_vit(out_indices=1)
    report = PretrainedViT(file)(vit)
    assert report.ignored['blocks.2.norm1.weight'] == 'comes after the last tap, block 1'
    assert 'last norm' in report.ignored['norm.weight']
    # A checkpoint of such a backbone goes into another one.
    again = make_vit(out_indices=1)
    torch.save(vit.state_dict(), file)
    assert not PretrainedViT(file)(again).new


def test_a_source_with_pooled_norm_has_no_last_norm(make_timm, make_vit, tmp_path):
    model = make_timm(global_pool='avg', class_token=False)
    assert 'fc_norm.weight' in model.state_dict()
    torch.save(model.state_dict(), tmp_path / 'pooled.pth')
    report = PretrainedViT(str(tmp_path / 'pooled.pth'))(make_vit(with_cls_token=False))
    assert 'pooled' in report.ignored['fc_norm.weight']
    assert set(report.new) == {'norm.weight', 'norm.bias'}


def test_layer_scale_of_one_is_added(deit, make_vit, oracle):
    model, file = deit
    vit = make_vit(layer_scale_init_value=1e-5)
    report = PretrainedViT(file)(vit)
    assert difference(vit, lambda image: oracle(model, image)) < 1e-5
    assert 'starts as one' in str(report)


def test_one_of_several_vits_is_chosen(make_timm, make_vit, tmp_path):
    student, teacher = make_timm(), make_timm()
    torch.nn.init.ones_(teacher.norm.weight)
    state = {f'student.{n}': t for n, t in student.state_dict().items()}
    state |= {f'teacher.{n}': t for n, t in teacher.state_dict().items()}
    file = str(tmp_path / 'both.pth')
    torch.save(state, file)
    vit = make_vit()
    with pytest.raises(ValueError, match="several ViTs, at 'student.', 'teacher.'"):
        PretrainedViT(file)(vit)
    PretrainedViT(file, prefix='teacher.')(vit)
    assert vit.norm.weight.eq(1).all()


def test_weights_under_another_key(make_timm, make_vit, tmp_path):
    plain, averaged = make_timm(), make_timm()
    torch.nn.init.ones_(averaged.norm.weight)
    file = str(tmp_path / 'ema.pth')
    torch.save({'state_dict': plain.state_dict(), 'state_dict_ema': averaged.state_dict()}, file)
    vit = make_vit()
    report = PretrainedViT(file)(vit)
    assert report.ignored['state_dict_ema'] == 'other weights in the file'
    assert not vit.norm.weight.eq(1).any()
    PretrainedViT(file, key='state_dict_ema')(vit)
    assert vit.norm.weight.eq(1).all()
    with pytest.raises(ValueError, match="no weights at 'ema'.*'state_dict_ema'"):
        PretrainedViT(file, key='ema')(vit)


def test_the_report_is_short_and_complete(deit, make_vit):
    _, file = deit
    vit = make_vit(pe_delivery='mpvg', with_cls_token=False, img_size=(64, 96))
    text = str(PretrainedViT(file)(vit))
    assert 'loaded   41 tensors' in text
    assert 'resized  position_embedding.table: 4x4 -> 4x6 patches, bicubic' in text
    assert 'new      pe_delivery.block_norms.N.* (4 tensors): starts as zero' in text
    assert 'ignored  head.* (2 tensors): belongs to the head' in text
    assert 'ignored  cls_token: with_cls_token=False' in text
    assert len(text.splitlines()) <= 10


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='deit-tiny'), r'48 wide with 3 blocks.*192 wide with 12'),
        (dict(arch=dict(embed_dims=48, num_layers=4, num_heads=3)), '3 blocks.*wide with 4'),
        (dict(arch=dict(embed_dims=48, num_layers=2, num_heads=3)), '3 blocks.*wide with 2'),
        (dict(arch=dict(embed_dims=48, num_layers=3, num_heads=3, mlp_ratio=2)), 'MLP ratio of 4'),
        (dict(pe_type='sinusoid_2d'), "pe_type='learnable'"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_loaded(deit, make_vit, arguments, message):
    _, file = deit
    vit = make_vit(**arguments)
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        PretrainedViT(file)(vit)
    assert all(torch.equal(before[name], tensor) for name, tensor in vit.state_dict().items())


def test_the_arch_that_would_fit_is_named(make_vit, tmp_path):
    torch.save(MPVGViT('deit-small', with_cls_token=True).state_dict(), tmp_path / 'small.pth')
    with pytest.raises(ValueError, match="set arch='vit-small'"):
        PretrainedViT(str(tmp_path / 'small.pth'))(MPVGViT('deit-tiny'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s['blocks.1.mlp.fc1.weight'].fill_(torch.nan), 'not finite in blocks.1.mlp.fc1'),
        (lambda s: s['norm.bias'][3:4].fill_(torch.inf), 'not finite in norm.bias'),
        (lambda s: s.pop('blocks.1.attn.proj.weight'), 'lacks 1 .* blocks.1.attn.proj.weight'),
        (lambda s: s.pop('pos_embed'), 'no learned position embedding'),
        (
            lambda s: s.update({'blocks.0.attn.rel_pos_h': torch.ones(3, 16)}),
            "set its relative_position='decomposed'",
        ),
        (lambda s: s.update({'norm_pre.weight': torch.ones(48)}), 'CLIP'),
        (lambda s: s.update({'blocks.0.mlp.fc2.weight': torch.ones(48, 96)}), 'gated'),
        (lambda s: s.update({'blocks.0.surprise': torch.ones(3)}), 'blocks.0.surprise'),
        (lambda s: s.update({'norm.bias': torch.ones(47)}), r'norm.bias has shape \(47,\)'),
        (lambda s: s.update(pos_embed=s['pos_embed'][:, :15]), '15 rows'),
    ],
)
def test_a_damaged_or_foreign_part_is_refused(make_timm, make_vit, tmp_path, change, message):
    state = make_timm().state_dict()
    change(state)
    torch.save(state, tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match=message):
        PretrainedViT(str(tmp_path / 'bad.pth'))(make_vit())


def test_heads_are_checked_where_the_source_tells_them(make_timm, make_vit):
    state = make_timm().state_dict()
    source = recognise(Weights(state, num_heads=6), 'x')
    with pytest.raises(ValueError, match='6 attention heads, this backbone 3; set arch=.*heads=6'):
        fit(source, make_vit())
    assert backbone_arguments(source)['arch']['num_heads'] == 6
    fit(recognise(Weights(state, num_heads=3), 'x'), make_vit())


@pytest.mark.parametrize(('have', 'want'), [('lape', 'mpvg'), ('mpvg', 'lape'), ('mpvg', 'pvg')])
def test_trained_pe_norms_are_never_dropped(make_vit, tmp_path, have, want):
    torch.save(make_vit(pe_delivery=have).state_dict(), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='set the pe_delivery that it was trained with'):
        PretrainedViT(str(tmp_path / 'x.pth'))(make_vit(pe_delivery=want))


def test_pvg_weights_go_on_as_mpvg(make_vit, tmp_path):
    source = make_vit(pe_delivery='pvg')
    torch.save(source.state_dict(), tmp_path / 'pvg.pth')
    vit = make_vit(pe_delivery='mpvg')
    report = PretrainedViT(str(tmp_path / 'pvg.pth'))(vit)
    assert set(report.new) == {'pe_delivery.last_norm.weight', 'pe_delivery.last_norm.bias'}
    assert difference(vit, lambda image: source(image)[0].detach()) < 1e-5


def test_gaussian_bias_is_new_or_kept_but_never_lost(deit, make_vit, tmp_path):
    _, file = deit
    vit = make_vit(gaussian_bias='head')
    report = PretrainedViT(file)(vit)
    assert report.new['blocks.2.attn.bias.sigma'].startswith('as initialized')
    torch.nn.init.constant_(vit.blocks[1].attn.bias.sigma, 2.5)
    torch.save(vit.state_dict(), tmp_path / 'gab.pth')
    again = make_vit(gaussian_bias='head')
    assert not PretrainedViT(str(tmp_path / 'gab.pth'))(again).new
    assert again.blocks[1].attn.bias.sigma.eq(2.5).all()
    with pytest.raises(ValueError, match='set its gaussian_bias'):
        PretrainedViT(str(tmp_path / 'gab.pth'))(make_vit())


def test_bad_settings(deit, make_vit):
    with pytest.raises(ValueError, match="'small'"):
        PretrainedViT(deit[1], pe_norms='small')
    with pytest.raises(TypeError, match='init_cfg of the backbone.*whole model'):
        PretrainedViT(deit[1])(torch.nn.Linear(2, 2))


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
def test_arguments_of_our_own_checkpoints(make_vit, delivery):
    vit = make_vit(
        pe_delivery=delivery, img_size=(48, 80), num_registers=2, layer_scale_init_value=0.1
    )
    source = recognise(Weights(vit.state_dict()), 'x.pth')
    assert backbone_arguments(source, num_heads=3) == dict(
        arch=dict(embed_dims=48, num_layers=3, num_heads=3, mlp_ratio=4.0),
        patch_size=16,
        img_size=(48, 80),
        in_channels=3,
        pe_delivery=delivery,
        with_cls_token=True,
        num_registers=2,
        layer_scale_init_value=1.0,
    )
    with pytest.raises(ValueError, match='48 wide.*num_heads'):
        backbone_arguments(source)


def test_a_gaussian_in_some_blocks_is_not_guessed(make_vit, tmp_path):
    vit = make_vit(
        gaussian_bias=dict(per='head', blocks='window'), window_size=2, global_blocks=(2,),
        with_cls_token=False,
    )  # fmt: skip
    file = str(tmp_path / 'windows.pth')
    torch.save(vit.state_dict(), file)
    with pytest.raises(ValueError, match='Gaussian bias in some blocks alone'):
        backbone_arguments(recognise(read_weights(file), file), num_heads=3)
    every = make_vit(gaussian_bias='block', with_cls_token=False)
    torch.save(every.state_dict(), file)
    arguments = backbone_arguments(recognise(read_weights(file), file), num_heads=3)
    assert arguments['gaussian_bias'] == 'block'

"""Arguments of the plain ViTs, on MPVGViT: windows, biases, tokens, decay, types, bad values."""

import pytest
import torch
import torch.nn.functional as F

from mmpvg.models import MPVGViT, SimpleFeaturePyramid, TokenPooling
from mmpvg.models.backbones import ViTArch

TINY = dict(embed_dims=48, num_layers=4, num_heads=3)


@pytest.mark.parametrize('relative', ['mlp', 'decomposed'])
@pytest.mark.parametrize('gaussian', [None, 'block', 'head'])
@pytest.mark.parametrize('delivery', ['default', 'mpvg'])
def test_relative_position_and_gaussian_with_the_pe(relative, gaussian, delivery, randomized):
    vit = randomized(
        arch=TINY,
        pe_delivery=delivery,
        relative_position=relative,
        gaussian_bias=gaussian,
        window_size=3,
        img_size=128,
    )
    for block in vit.blocks if gaussian else ():
        # Not so narrow that the gradient of the width vanishes.
        torch.nn.init.constant_(block.attn.bias.sigma, 2.0)
    image = torch.randn(1, 3, 144, 272)
    outputs = []
    for fused in (True, False):
        for block in vit.blocks:
            block.attn.fused = fused
        vit.zero_grad()
        (out,) = vit(image)
        out.square().sum().backward()
        outputs.append(out.detach())
        assert all(p.grad is not None and p.grad.any() for p in vit.parameters())
    assert torch.allclose(*outputs, atol=1e-3, rtol=1e-3)
    assert vit.get_layer_depth('blocks.2.attn.qkv.weight')[0] == 3
    names = [name for name, _ in vit.named_parameters() if '.rel_pos.' in name]
    assert {vit.get_layer_depth(name)[0] for name in names} == {1, 2, 3, 4}


@pytest.mark.parametrize('delivery', ['lape', 'mpvg'])
def test_registers_receive_no_position_embedding(delivery, randomized):
    vit = randomized(arch=TINY, pe_delivery=delivery, num_registers=2, with_cls_token=True)
    delivered = vit.deliver_pe((3, 5))
    unpadded = vit.pe_delivery(vit.position_embedding((3, 5)))
    for padded, pe in zip(
        [delivered.last_norm, *delivered.blocks], [unpadded.last_norm, *unpadded.blocks]
    ):
        if pe is None:
            assert padded is None
            continue
        assert padded.shape == (1, 2 + 1 + 15, 48)
        assert not padded[:, :2].any()
        assert torch.equal(padded[:, 2:], pe)


@pytest.mark.parametrize('size', [(224, 224), (500, 333), (97, 800)])
def test_windows_with_global_blocks(size, randomized):
    """Fused against explicit attention; a block with windows must not see beyond its window."""
    vit = randomized(arch=TINY, window_size=5, global_blocks=(3,), out_indices=(0, 3))
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        fused = vit(image)
        for block in vit.blocks:
            block.attn.fused = False
        for a, b in zip(fused, vit(image)):
            assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)
        changed = image.clone()
        changed[..., -1, -1] += 1e4
        local, everywhere = vit(changed)
    h, w = local.shape[2:]
    top, left = (h - 1) // 5 * 5, (w - 1) // 5 * 5
    same = torch.isclose(local, fused[0], atol=1e-5).all(1)[0]
    assert same[:top].all() and same[:, :left].all()
    assert not same[top:, left:].all()
    assert not torch.equal(everywhere[:, :, 0, 0], fused[1][:, :, 0, 0])


def test_global_blocks_end_the_quarters_of_the_depth():
    windows = [block.attn.window_size for block in MPVGViT(window_size=14).blocks]
    assert [i for i, size in enumerate(windows) if size == 0] == [2, 5, 8, 11]
    assert {size for size in windows if size} == {14}
    none_global = MPVGViT(TINY, window_size=7, global_blocks=())
    assert [block.attn.window_size for block in none_global.blocks] == [7] * 4


@pytest.mark.parametrize('cls_token', [True, False])
@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('pe_type', ['learnable', 'sinusoid_1d', 'sinusoid_2d'])
def test_every_parameter_receives_a_gradient(delivery, pe_type, cls_token, randomized):
    vit = randomized(
        arch=TINY, pe_delivery=delivery, pe_type=pe_type, with_cls_token=cls_token
    ).train()
    maps = vit(torch.randn(2, 3, 80, 123))
    sum(m.square().sum() for m in maps).backward()
    without = [name for name, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize('out_type', ['featmap', 'cls_token'])
@pytest.mark.parametrize('delivery', ['lape', 'mpvg'])
def test_every_parameter_of_the_options_receives_a_gradient(delivery, out_type, randomized):
    vit = randomized(
        arch=TINY,
        pe_delivery=delivery,
        with_cls_token=True,
        num_registers=2,
        layer_scale_init_value=0.1,
    )
    vit.out_type = out_type
    vit(torch.randn(2, 3, 80, 123))[0].square().sum().backward()
    without = [name for name, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize('kind', ['block', 'head'])
@pytest.mark.parametrize(
    ('blocks', 'window_size', 'biased'),
    [('all', 0, [0, 1, 2, 3]), ('all', 5, [0, 1, 2, 3]), ('window', 5, [0, 2])],
)
def test_gaussian_bias(kind, blocks, window_size, biased, randomized):
    arguments = dict(arch=TINY, window_size=window_size)
    if window_size:
        arguments['global_blocks'] = (1, 3)
    vit = randomized(**arguments, gaussian_bias=dict(per=kind, blocks=blocks))
    found = [i for i, block in enumerate(vit.blocks) if block.attn.bias is not None]
    assert found == biased
    assert {len(vit.blocks[i].attn.bias.a) for i in biased} == {1 if kind == 'block' else 3}
    for i in biased:
        torch.nn.init.uniform_(vit.blocks[i].attn.bias.a, 1, 2)
        torch.nn.init.uniform_(vit.blocks[i].attn.bias.sigma, 1, 4)
    image = torch.randn(1, 3, 130, 250)
    vit(image)[0].square().sum().backward()
    without = [n for n, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert vit.get_layer_depth(f'blocks.{biased[1]}.attn.bias.sigma')[0] == biased[1] + 1
    plain = randomized(**arguments)
    plain.load_state_dict(vit.state_dict(), strict=False)
    with torch.no_grad():
        assert not torch.allclose(vit(image)[0], plain(image)[0], atol=1e-3)
        for i in biased:
            vit.blocks[i].attn.bias.a.zero_()
        assert torch.allclose(vit(image)[0], plain(image)[0], atol=1e-5)


def test_checkpointing_changes_nothing_but_memory(randomized):
    image = torch.randn(2, 3, 96, 64)
    gradients = []
    for with_cp in (False, True):
        vit = randomized(arch=TINY, with_cp=with_cp, drop_path_rate=0.5).train()
        torch.manual_seed(3)
        vit(image)[0].square().sum().backward()
        gradients.append({name: p.grad for name, p in vit.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-5, atol=1e-6), name


def test_checkpointing_recomputes_the_blocks(randomized):
    vit = randomized(arch=TINY, with_cp=True).train()
    calls = []
    vit.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    vit(torch.randn(1, 3, 64, 64))[0].sum().backward()
    assert len(calls) == 2


def test_drop_path_grows_linearly():
    rates = [block.drop_path.rate for block in MPVGViT(TINY, drop_path_rate=0.3).blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


@pytest.mark.parametrize('eps', [1e-6, 1e-5])
def test_norm_eps(eps):
    vit = MPVGViT(TINY) if eps == 1e-6 else MPVGViT(TINY, eps=eps)
    norms = [m for m in vit.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert len(norms) == 2 * 4 + 1 + 3 + 1
    assert {norm.eps for norm in norms} == {eps}


def test_layer_depths():
    vit = MPVGViT(TINY, with_cls_token=True)
    depth = {
        n: vit.get_layer_depth(f'backbone.{n}', 'backbone.') for n, _ in vit.named_parameters()
    }
    assert {num for _, num in depth.values()} == {6}
    for name in ('cls_token', 'position_embedding.table', 'patch_embed.proj.bias'):
        assert depth[name][0] == 0
    for block in range(4):
        assert depth[f'blocks.{block}.attn.qkv.weight'][0] == block + 1
    # A block's PE norm is as deep as the block.
    for block in range(1, 4):
        assert depth[f'pe_delivery.block_norms.{block}.weight'][0] == block + 1
    assert depth['norm.weight'][0] == depth['pe_delivery.last_norm.bias'][0] == 5
    with pytest.raises(ValueError, match="'nope'"):
        vit.get_layer_depth('nope')
    assert vit.get_layer_depth('neck.weight', 'backbone.') == (5, 6)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='deit-huge'), "'deit-huge'.*vit-tiny.*deit-tiny"),
        (dict(arch=dict(embed_dims=50, num_layers=2, num_heads=3)), '50 channels.*3 heads'),
        (dict(arch=dict(embed_dims=48, num_layers=2)), "lacks \\['num_heads'\\]"),
        (dict(arch=dict(TINY, depth=3)), "unknown keys \\['depth'\\]"),
        (dict(arch=dict(TINY, num_layers=0)), "'num_layers': 0"),
        (dict(pe_delivery='vpg'), "'vpg'"),
        (dict(pe_type='rotary'), "'rotary'"),
        (dict(out_indices=(11, 12)), r'out_indices=\[11, 12\].*-12 to 11'),
        (dict(pe_delivery=dict(at_input=False)), 'nowhere'),
        (dict(pe_delivery=dict(base='mpvg', at_input=False), out_indices=0), 'nowhere'),
        (dict(out_indices=(5, 2)), 'ascending'),
        (dict(out_indices=()), 'out_indices'),
        (dict(window_size=14, global_blocks=(2, 12)), r'global_blocks=\[2, 12\]'),
        (dict(global_blocks=(2,)), 'window_size=0'),
        (dict(window_size=-3), '-3'),
        (dict(window_size=14, with_cls_token=True), 'with_cls_token'),
        (dict(window_size=14, num_registers=4), 'num_registers=4'),
        (dict(num_registers=-1), '-1'),
        (
            dict(gaussian_bias='layer'),
            "unknown per of gaussian_bias 'layer'; choose one of head",
        ),
        (dict(gaussian_bias=3), 'unknown per of gaussian_bias 3'),
        (dict(gaussian_bias=dict(per='head', blocks='some')), "'some'"),
        (dict(gaussian_bias=dict(per='head', blocks='window')), 'every block is global'),
        (dict(out_type='pooled'), "'pooled'.*featmap"),
        (dict(out_type='cls_token'), 'with_cls_token=True'),
        (dict(img_size=8), 'got 8'),
        (dict(img_size=(224, 224, 3)), r'\(224, 224, 3\)'),
        (dict(patch_size=0), 'got 0'),
        (dict(patch_size=(16, 8)), r'patches are square; got \(16, 8\)'),
        (dict(patch_size=(8, 8, 8)), r'got \(8, 8, 8\)'),
        (dict(drop_path_rate=1.0), '1.0'),
        (dict(pe_type=None, pe_delivery='mpvg'), "pe_delivery='mpvg'.*leave pe_delivery out"),
        (
            dict(interpolate_mode='bicubik'),
            "'bicubik'.*bicubic, bilinear, nearest, nearest-exact, area",
        ),
        (dict(interpolate_mode='linear'), "unknown interpolate_mode 'linear'"),
        (dict(pe_delivery='none'), 'a learnable one would get no gradient'),
        (dict(relative_position='swin'), "unknown type of relative_position 'swin'"),
        (
            dict(relative_position=dict(type='decomposed', grid=(1, 2, 3))),
            r'grid of relative_position must be .* got \(1, 2, 3\)',
        ),
        (dict(relative_position=dict(type='mlp', grid=14)), "grid=14, which type='mlp' does not"),
        (dict(relative_position=dict(grid=14)), 'a dict with type and, if need be, grid'),
        (dict(gaussian_bias=dict(kernel='flex')), 'a dict with per and, if need be, blocks, kern'),
        (dict(gaussian_bias=dict(per='head', block='all')), "'block': 'all'"),
        (
            dict(gaussian_bias=dict(per='head', kernel='flash')),
            "unknown kernel of gaussian_bias 'flash'",
        ),
        (
            dict(gaussian_bias=dict(per='head', kernel='flex'), relative_position='mlp'),
            "got 'mlp'",
        ),
        (
            dict(gaussian_bias=dict(per='head', kernel='flex'), attn_drop_rate=0.1),
            'set attn_drop_rate=0 ',
        ),
        (
            dict(gaussian_bias=dict(per='head', kernel='flex'), window_size=7, global_blocks=()),
            'no global block has the Gaussian',
        ),
        (
            dict(gaussian_bias=dict(per='head', kernel='flex', blocks='window'), window_size=7),
            'no global block has the Gaussian',
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MPVGViT(**arguments)


def test_no_pe_needs_no_delivery(randomized):
    vit, spelt_out = (
        randomized(arch=TINY, pe_type=None, relative_position='mlp', **delivery)
        for delivery in ({}, dict(pe_delivery='none'))
    )
    assert not vit.pe_delivery.delivers and not list(vit.pe_delivery.parameters())
    image = torch.randn(1, 3, 48, 64)
    with torch.no_grad():
        assert torch.equal(vit(image)[0], spelt_out(image)[0])


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear', 'nearest', 'nearest-exact', 'area'])
def test_every_mode_of_interpolation(mode):
    vit = MPVGViT(TINY, img_size=64, interpolate_mode=mode)
    table = vit.position_embedding.table.detach().permute(0, 3, 1, 2)
    expected = F.interpolate(table, size=(5, 3), mode=mode)
    found = vit.position_embedding((5, 3)).detach()
    assert torch.equal(found, expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize('size', ['tiny', 'small', 'base', 'large'])
def test_deit_names_are_aliases(size):
    # Width, blocks and heads of Table 1 of DeiT and of ViT-L in Table 1 of ViT.
    sizes = dict(tiny=(192, 12, 3), small=(384, 12, 6), base=(768, 12, 12), large=(1024, 24, 16))
    for name in (f'vit-{size}', f'deit-{size}'):
        arch = ViTArch.parse(name)
        assert (arch.embed_dims, arch.num_layers, arch.num_heads) == sizes[size]
        assert arch.mlp_ratio == 4
        assert SimpleFeaturePyramid(name, out_channels=8).in_channels == sizes[size][0]
        assert TokenPooling('ggem', name).pool.p.numel() == sizes[size][2]


@pytest.mark.parametrize('pair', [(8, 8), [8, 8]])
def test_a_pair_of_equal_sides_is_a_patch_size(pair, randomized):
    vit, other = (randomized(arch=TINY, img_size=40, patch_size=p) for p in (8, pair))
    assert other.patch_embed.patch_size == 8 and other.position_embedding.grid == (5, 5)
    image = torch.randn(1, 3, 30, 50)
    with torch.no_grad():
        assert torch.equal(vit(image)[0], other(image)[0])


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
def test_residual_stream_stays_in_float32_under_autocast(delivery, randomized):
    vit = randomized(arch=TINY, pe_delivery=delivery)
    inputs = []
    vit.blocks[2].register_forward_pre_hook(lambda _, args: inputs.append(args[0].dtype))
    image = torch.randn(1, 3, 97, 120)
    with torch.no_grad():
        expected = vit(image)[0]
        with torch.autocast('cpu', torch.bfloat16):
            out = vit(image)[0]
    assert inputs == [torch.float32] * 2 and out.dtype == torch.float32
    assert (out - expected).norm() / expected.norm() < 0.02


def test_a_half_precision_model_stays_in_half_precision(randomized):
    vit = randomized(arch=TINY, pe_delivery='lape').bfloat16()
    assert vit(torch.randn(1, 3, 64, 80).bfloat16())[0].dtype == torch.bfloat16

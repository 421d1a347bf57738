"""MPVGViTAdapter: fusion with the ViT as published, sizes, arguments."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmpvg.models import MPVGViT, MPVGViTAdapter
from mmpvg.models.backbones import PlainViT

TINY = dict(embed_dims=48, num_layers=4, num_heads=3)
BN = dict(type='BN')
TOKENS = dict(with_cls_token=True, num_registers=2)
WINDOWS = dict(window_size=3, global_blocks=(3,))
SIZES = [(64, 96), (96, 64), (50, 77)]


def test_a_patch_size_of_16_may_be_a_pair():
    assert MPVGViTAdapter(TINY, patch_size=(16, 16), norm_cfg=BN).patch_embed.patch_size == 16


@pytest.mark.parametrize('size', SIZES)
def test_sizes_are_rounded_up_at_every_stride(size, randomized_adapter):
    maps = randomized_adapter()(torch.randn(2, 3, *size))
    for m, stride in zip(maps, (4, 8, 16, 32)):
        assert m.shape == (2, 48, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize('options', [WINDOWS, TOKENS], ids=['windows', 'tokens'])
@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
def test_a_new_adapter_leaves_the_vit_as_it_is(delivery, options, monkeypatch):
    torch.manual_seed(0)
    model = MPVGViTAdapter(TINY, pe_delivery=delivery, norm_cfg=BN, **options).eval()
    options = dict(options, layer_scale_init_value=1.0, out_indices=(0, 1, 2, 3))
    vit = MPVGViT(TINY, pe_delivery=delivery, **options).eval()
    assert not any(i.injector.gamma.any() for i in model.interactions)
    state = model.state_dict()
    final = {name: value for name, value in vit.state_dict().items() if name.startswith('norm.')}
    vit.load_state_dict({**{n: state[n] for n in vit.state_dict() if n in state}, **final})
    features = []
    feature_map = model._feature_map
    monkeypatch.setattr(
        model, '_feature_map', lambda x, grid: features.append(x) or feature_map(x, grid)
    )
    image = torch.randn(1, 3, 80, 112)
    with torch.no_grad():
        model(image)
        tokens, _ = vit.forward_tokens(image)
        for got, wanted in zip(features[:3], tokens[:3]):
            assert torch.equal(got, wanted)
        # After the last block MPVG's PE is added; the ViT has a LayerNorm before it.
        last = features[3]
        if delivery == 'mpvg':
            pe = model.deliver_pe((5, 7)).last_norm
            assert pe.any()
            last = last - pe
            wanted = vit.norm(last) + pe
        else:
            wanted = vit.norm(last)
        assert torch.allclose(wanted, tokens[3], atol=1e-5)


def fused_by_segmentation(pyramid, runs):
    """ViT-Adapter's segmentation code: the map of each group goes to the level of its order."""
    x1, x2, x3, x4 = runs
    x1 = F.interpolate(x1, scale_factor=4, mode='bilinear', align_corners=False)
    x2 = F.interpolate(x2, scale_factor=2, mode='bilinear', align_corners=False)
    x4 = F.interpolate(x4, scale_factor=0.5, mode='bilinear', align_corners=False)
    return [c + x for c, x in zip(pyramid, (x1, x2, x3, x4))]


def fused_by_detection(pyramid, runs):
    """ViT-Adapter's detection code: the map of the last group goes to all four levels."""
    last = runs[-1]
    resized = [
        F.interpolate(last, scale_factor=4, mode='bilinear', align_corners=False),
        F.interpolate(last, scale_factor=2, mode='bilinear', align_corners=False),
        last,
        F.interpolate(last, scale_factor=0.5, mode='bilinear', align_corners=False),
    ]
    return [c + x for c, x in zip(pyramid, resized)]


def parts_before_the_fusion(model, image):
    """The pyramid after the last extractor, and the map of the ViT after every group."""
    runs, last, finest = [], [], []
    hooks = [
        interaction.extractors[0].register_forward_hook(lambda m, args, out: runs.append(args[1]))
        for interaction in model.interactions
    ]
    hooks.append(
        model.interactions[-1]
        .extractors[-1]
        .register_forward_hook(lambda m, a, out: last.append(out))
    )
    hooks.append(model.spatial_prior.register_forward_hook(lambda m, a, out: finest.append(out[0])))
    outputs = model(image)
    for hook in hooks:
        hook.remove()
    h, w = -(-image.shape[2] // 16), -(-image.shape[3] // 16)
    runs = [x.transpose(1, 2).reshape(len(image), -1, h, w) for x in runs]
    grids = [tuple(m.shape[2:]) for m in outputs[1:]]
    parts = last[0].split([h * w for h, w in grids], dim=1)
    c2, c3, c4 = (
        part.transpose(1, 2).reshape(len(image), -1, *grid) for part, grid in zip(parts, grids)
    )
    c1 = finest[0] + model.up(c2)[..., : finest[0].shape[2], : finest[0].shape[3]]
    return [c1, c2, c3, c4], runs, outputs


@pytest.mark.parametrize(
    ('vit_maps', 'fuse'), [('each', fused_by_segmentation), ('last', fused_by_detection)]
)
@pytest.mark.parametrize('delivery', ['default', 'mpvg'])
def test_fusion_is_that_of_the_published_segmentation_and_detection_code(
    vit_maps, fuse, delivery, randomized_adapter
):
    model = randomized_adapter(vit_maps=vit_maps, pe_delivery=delivery)
    with torch.no_grad():
        pyramid, runs, outputs = parts_before_the_fusion(model, torch.randn(2, 3, 96, 64))
        expected = [norm(m) for norm, m in zip(model.output_norms, fuse(pyramid, runs))]
    for got, wanted in zip(outputs, expected):
        torch.testing.assert_close(got, wanted)


def test_both_fusions_agree_on_the_coarsest_level_alone(randomized_adapter):
    image = torch.randn(1, 3, 50, 77)
    with torch.no_grad():
        each, last = (randomized_adapter(vit_maps=name)(image) for name in ('each', 'last'))
    assert [m.shape for m in each] == [m.shape for m in last]
    assert [torch.equal(a, b) for a, b in zip(each, last)] == [False, False, False, True]


def test_the_last_map_reaches_every_level_up_to_its_edge_at_odd_sizes(randomized_adapter):
    model = randomized_adapter(vit_maps='last')
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    # The ViT's tokens are ones, everything else is zero: the levels are what the norm makes of 1.
    torch.nn.init.ones_(model.patch_embed.proj.bias)
    for norm in model.output_norms:
        norm.reset_running_stats()
        torch.nn.init.ones_(norm.weight)
    with torch.no_grad():
        for m in model(torch.randn(1, 3, 50, 77)):
            torch.testing.assert_close(m, torch.ones_like(m), rtol=1e-4, atol=0)


@pytest.mark.parametrize('options', [{}, TOKENS], ids=['plain', 'tokens'])
@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
def test_every_parameter_receives_a_gradient(delivery, options, randomized_adapter):
    model = randomized_adapter(pe_delivery=delivery, **options).train()
    sum(m.square().mean() for m in model(torch.randn(2, 3, 64, 96))).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize('relative', [None, 'mlp', 'decomposed'])
def test_attention_biases_come_with_the_blocks(relative, randomized_adapter):
    model = randomized_adapter(
        gaussian_bias=dict(per='head', blocks='window'),
        window_size=3,
        global_blocks=(3,),
        relative_position=relative,
    ).train()
    assert [block.attn.bias is not None for block in model.blocks] == [True, True, True, False]
    for block in model.blocks[:3]:
        torch.nn.init.constant_(block.attn.bias.sigma, 2.0)
    sum(m.square().mean() for m in model(torch.randn(2, 3, 80, 112))).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_checkpointing_changes_nothing(randomized_adapter):
    image = torch.randn(2, 3, 64, 96)
    gradients = []
    for with_cp in (False, True):
        model = randomized_adapter(with_cp=with_cp).train()
        sum(m.square().mean() for m in model(image)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


def test_under_autocast_sampling_stays_in_float32(randomized_adapter):
    model = randomized_adapter()
    seen = []
    attention = model.interactions[0].injector.attn
    attention.output_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(image)
        with torch.autocast('cpu', torch.bfloat16):
            maps = model(image)
    assert seen == [torch.float32, torch.float32]
    for got, wanted in zip(maps, expected):
        assert (got.float() - wanted).norm() < 0.05 * wanted.norm()


def test_a_model_that_is_half_precision_as_a_whole_runs(randomized_adapter):
    model = randomized_adapter(gaussian_bias='head', relative_position='mlp')
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(image)
        maps = model.bfloat16()(image.bfloat16())
    for got, wanted in zip(maps, expected):
        assert got.dtype == torch.bfloat16
        assert (got.float() - wanted).norm() < 0.1 * wanted.norm()


def test_it_has_the_arguments_of_the_plain_vit_and_no_others():
    assert isinstance(MPVGViTAdapter(TINY, norm_cfg=BN), PlainViT)
    for argument in ('out_indices', 'final_norm', 'num_blocks', 'last_norm'):
        with pytest.raises(TypeError, match=f"keyword argument '{argument}'"):
            MPVGViTAdapter(TINY, norm_cfg=BN, **{argument: 1})


def test_the_delivery_costs_its_norms_alone():
    counts = {
        delivery: sum(
            p.numel() for p in MPVGViTAdapter('deit-tiny', pe_delivery=delivery).parameters()
        )
        for delivery in ('default', 'lape', 'pvg', 'mpvg')
    }
    norm = 2 * 192
    assert counts['lape'] == counts['default'] + 12 * norm
    assert counts['pvg'] == counts['default'] + 11 * norm
    assert counts['mpvg'] == counts['default'] + 12 * norm


@pytest.mark.parametrize(('arch', 'more'), [('deit-tiny', 4_608), ('deit-small', 9_216)])
def test_layer_scale_is_on_by_default_as_in_the_published_code(arch, more):
    with torch.device('meta'):
        scaled, plain = MPVGViTAdapter(arch), MPVGViTAdapter(arch, layer_scale_init_value=None)
    count = [sum(p.numel() for p in model.parameters()) for model in (scaled, plain)]
    assert count[0] - count[1] == more
    gammas = [block.ls1.gamma for block in MPVGViTAdapter(TINY, norm_cfg=BN).blocks]
    assert all((gamma == 1).all() for gamma in gammas)


@pytest.mark.parametrize(
    ('arch', 'heads', 'values'),
    [
        ('deit-tiny', 6, 192),
        ('vit-tiny', 6, 192),
        ('deit-small', 6, 384),
        ('vit-small', 6, 384),
        ('deit-base', 12, 384),
        ('vit-base', 12, 384),
    ],
)
def test_published_sizes(arch, heads, values):
    with torch.device('meta'):
        model = MPVGViTAdapter(arch)
    assert model.interaction_indexes == [(0, 2), (3, 5), (6, 8), (9, 11)]
    for interaction in model.interactions:
        for attention in (interaction.injector.attn, interaction.extractors[0].attn):
            assert attention.num_heads == heads and attention.num_points == 4
            assert attention.value_proj.out_features == values
    assert [len(interaction.extractors) for interaction in model.interactions] == [1, 1, 1, 3]
    assert model.interactions[0].extractors[0].mlp.fc1.out_features == model.embed_dims // 4
    assert isinstance(model.output_norms[0], torch.nn.SyncBatchNorm)


@pytest.mark.parametrize('arch', ['deit-large', 'vit-large'])
def test_published_sizes_of_the_large_one(arch):
    with torch.device('meta'):
        model = MPVGViTAdapter(arch)
    assert model.interaction_indexes == [(0, 5), (6, 11), (12, 17), (18, 23)]
    assert model.interactions[0].injector.attn.num_heads == 16
    assert model.interactions[0].injector.attn.value_proj.out_features == 512


def test_depths_and_weight_decay():
    model = MPVGViTAdapter(TINY, norm_cfg=BN)
    depths = {name: model.get_layer_depth(f'b.{name}', 'b.')[0] for name in model.state_dict()
              if name in dict(model.named_parameters())}  # fmt: skip
    assert depths['blocks.2.attn.qkv.weight'] == depths['pe_delivery.block_norms.2.weight'] == 3
    # The adapter is new, so it has the full learning rate.
    for name in ('level_embed', 'up.weight', 'spatial_prior.stem.0.weight', 'output_norms.0.bias'):
        assert depths[name] == 5
    assert 'level_embed' in model.no_weight_decay()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(patch_size=14), 'patch_size=16'),
        (dict(**TOKENS, **WINDOWS), 'with_cls_token=True.*set window_size=0'),
        (dict(interaction_indexes=[[0, 1], [2, 3]]), 'must be 4 groups'),
        (dict(interaction_indexes=[[0, 0], [1, 1], [2, 2], [2, 3]]), 'hold all 4 blocks in order'),
        (dict(vit_maps='all'), "unknown vit_maps 'all'; choose one of each, last"),
        (dict(deform_num_heads=5), 'deform_num_heads=5 must divide 48'),
        (dict(deform_ratio=0.1), 'deform_ratio=0.1'),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message.replace('[', r'\[')):
        MPVGViTAdapter(TINY, norm_cfg=BN, **kwargs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_the_cuda_kernel_gives_what_the_cpu_does(dtype, randomized_adapter):
    model = randomized_adapter()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = model(image)
        with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
            maps = model.cuda()(image.cuda())
    for got, wanted in zip(maps, expected):
        assert (got.float().cpu() - wanted).norm() < 0.05 * wanted.norm()


def test_training_starts_as_vit_adapters():
    """As ViT-Adapter's code: one rate in every extractor, normal level_embed and convolutions."""
    torch.manual_seed(0)
    dims = 192
    arch = dict(embed_dims=dims, num_layers=4, num_heads=3)
    model = MPVGViTAdapter(arch, norm_cfg=BN, conv_channels=8, drop_path_rate=0.3)
    rates = [
        extractor.drop_path.rate
        for interaction in model.interactions
        for extractor in interaction.extractors
    ]
    # One a stage, and two more in the last.
    assert rates == [0.3] * 6
    assert model.level_embed.shape == (3, dims)
    assert model.level_embed.std().item() == pytest.approx(1, abs=0.1)
    # Fan-out of a 2x2 kernel.
    assert model.up.weight.std().item() == pytest.approx(math.sqrt(2 / (4 * dims)), rel=0.02)
    assert model.up.weight.mean().item() == pytest.approx(0, abs=1e-3)
    assert not model.up.bias.any()

"""MPVGViTAdapter against a transcription of ViT-Adapter's equations, and its sizes and errors."""

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


def randomized(arch=TINY, **kwargs):
    """An adapter in which every parameter and statistic is random."""
    torch.manual_seed(0)
    model = MPVGViTAdapter(arch, norm_cfg=BN, conv_channels=8, **kwargs).eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            torch.nn.init.normal_(value, std=0.1)
        if name.endswith(('running_var', 'output_norms.0.weight')):
            value.abs_().add_(0.5)
    return model


class Paper:
    """ViT-Adapter, from its paper's equations 1 to 3 and figure 4, in float64, sample by sample."""

    def __init__(self, model, heads, points=4):
        self.w = {name: value.double() for name, value in model.state_dict().items()}
        self.heads, self.points = heads, points

    def linear(self, name, x):
        return x @ self.w[f'{name}.weight'].T + self.w[f'{name}.bias']

    def layer_norm(self, name, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * self.w[f'{name}.weight'] + self.w[f'{name}.bias']

    def batch_norm(self, name, x):
        mean, var, weight, bias = (
            self.w[f'{name}.{part}'][:, None, None]
            for part in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def conv(self, name, x, **kwargs):
        return F.conv2d(x, self.w[f'{name}.weight'], self.w.get(f'{name}.bias'), **kwargs)

    def prior(self, image):
        x = image
        for index, stride in ((0, 2), (3, 1), (6, 1)):
            x = self.conv(f'spatial_prior.stem.{index}', x, stride=stride, padding=1)
            x = self.batch_norm(f'spatial_prior.stem.{index + 1}', x).relu()
        maps = [F.max_pool2d(x, 3, 2, 1)]
        for stage in range(3):
            x = self.conv(f'spatial_prior.stages.{stage}.0', maps[-1], stride=2, padding=1)
            maps.append(self.batch_norm(f'spatial_prior.stages.{stage}.1', x).relu())
        return [self.conv(f'spatial_prior.projections.{i}', m) for i, m in enumerate(maps)]

    def at(self, m, x, y):
        """Bilinear value of a map (h, w, d) at a place in cells; zero outside."""
        left, top = math.floor(x), math.floor(y)
        value = torch.zeros(m.shape[2], dtype=torch.float64)
        for row in (top, top + 1):
            for column in (left, left + 1):
                if 0 <= row < m.shape[0] and 0 <= column < m.shape[1]:
                    weight = (1 - abs(x - column)) * (1 - abs(y - row))
                    value = value + weight * m[row, column]
        return value

    def deformable(self, name, queries, strides_of_queries, maps, strides):
        """Deformable DETR's equation 3, a loop over queries, heads, levels and points.

        queries are (N, D) with centers; maps are (h, w, D).
        """
        normed = self.layer_norm(f'{name}.query_norm', queries)
        values = [
            self.linear(f'{name}.attn.value_proj', self.layer_norm(f'{name}.feat_norm', m))
            for m in maps
        ]
        shape = (len(queries), self.heads, len(maps), self.points)
        offsets = self.linear(f'{name}.attn.sampling_offsets', normed).view(*shape, 2)
        weights = self.linear(f'{name}.attn.attention_weights', normed)
        weights = weights.view(*shape[:2], -1).softmax(-1).view(shape)
        result = []
        for n, (x, y) in enumerate(strides_of_queries):
            heads = []
            for head in range(self.heads):
                total = 0
                for level, value in enumerate(values):
                    part = value.unflatten(2, (self.heads, -1))[:, :, head]
                    for point in range(self.points):
                        dx, dy = offsets[n, head, level, point].tolist()
                        # Centres of cells are at whole numbers.
                        column = x / strides[level] - 0.5 + dx
                        row = y / strides[level] - 0.5 + dy
                        weight = weights[n, head, level, point]
                        total = total + weight * self.at(part, column, row)
                heads.append(total)
            result.append(torch.cat(heads))
        return self.linear(f'{name}.attn.output_proj', torch.stack(result))

    def conv_mlp(self, name, maps):
        hidden = [self.linear(f'{name}.fc1', m) for m in maps]
        width = hidden[0].shape[2]
        hidden = [
            self.conv(f'{name}.dwconv', m.permute(2, 0, 1)[None], padding=1, groups=width)[0]
            for m in hidden
        ]
        return [self.linear(f'{name}.fc2', F.gelu(m.permute(1, 2, 0))) for m in hidden]


def centers(maps, strides):
    return [
        ((column + 0.5) * stride, (row + 0.5) * stride)
        for m, stride in zip(maps, strides)
        for row in range(m.shape[0])
        for column in range(m.shape[1])
    ]


def split(tokens, like):
    parts = tokens.split([m.shape[0] * m.shape[1] for m in like])
    return [part.view(*m.shape[:2], -1) for part, m in zip(parts, like)]


def expected_pyramid(model, image, ratio_heads=3):
    """The outputs by the paper; the blocks of the ViT, tested elsewhere, are its own."""
    paper = Paper(model, ratio_heads)
    finest, *maps = paper.prior(image.double())
    maps = [m[0].permute(1, 2, 0) + e for m, e in zip(maps, paper.w['level_embed'])]
    strides = (8, 16, 32)
    blocks = model.double().blocks
    tokens, (h, w) = model.patch_embed(image.double())
    extra = [token for token in (model.register_tokens, model.cls_token) if token is not None]
    tokens, before = torch.cat([*extra, tokens], dim=1), sum(token.shape[1] for token in extra)
    # float32 in the resize of the PE, as everywhere.
    delivered = model.deliver_pe((h, w))
    x = tokens if delivered.input is None else tokens + delivered.input
    features = []
    for i, (first, last) in enumerate(model.interaction_indexes):
        name = f'interactions.{i}'
        patches = x[0, before:]
        attended = paper.deformable(
            f'{name}.injector', patches, centers([patches.view(h, w, -1)], [16]), maps, strides
        )
        patches = patches + paper.w[f'{name}.injector.gamma'] * attended
        x = torch.cat([x[:, :before], patches[None]], dim=1)
        for block in range(first, last + 1):
            x = blocks[block](x, delivered.blocks[block], (h, w))
        if i == 3 and delivered.last_norm is not None:
            x = x + delivered.last_norm
        feature = x[0, before:].view(h, w, -1)
        for j in range(3 if i == 3 else 1):
            extractor = f'{name}.extractors.{j}'
            c = torch.cat([m.flatten(0, 1) for m in maps])
            c = c + paper.deformable(extractor, c, centers(maps, strides), [feature], [16])
            maps = split(c, maps)
            normed = [paper.layer_norm(f'{extractor}.mlp_norm', m) for m in maps]
            maps = [m + y for m, y in zip(maps, paper.conv_mlp(f'{extractor}.mlp', normed))]
        features.append(feature.permute(2, 0, 1)[None])
    maps = [m.permute(2, 0, 1)[None] for m in maps]
    up = F.conv_transpose2d(maps[0], paper.w['up.weight'], paper.w['up.bias'], stride=2)
    maps = [finest + up[..., : finest.shape[2], : finest.shape[3]], *maps]
    outputs = []
    for index, (m, feature_map) in enumerate(zip(maps, features)):
        stride = 4 * 2**index
        rescaled = torch.zeros_like(m)
        for row in range(m.shape[2]):
            for column in range(m.shape[3]):
                # A place of the output in cells of the ViT's map; clamped, as interpolation is.
                y = min(max((row + 0.5) * stride / 16 - 0.5, 0), h - 1)
                x_ = min(max((column + 0.5) * stride / 16 - 0.5, 0), w - 1)
                rescaled[0, :, row, column] = paper.at(feature_map[0].permute(1, 2, 0), x_, y)
        outputs.append(paper.batch_norm(f'output_norms.{index}', m + rescaled))
    return outputs


@pytest.mark.parametrize('options', [WINDOWS, TOKENS], ids=['windows', 'tokens'])
@pytest.mark.parametrize('delivery', ['default', 'lape', 'mpvg'])
@pytest.mark.parametrize('size', [(64, 32), (50, 37)])
def test_pyramid_is_that_of_the_papers_equations(size, delivery, options):
    model = randomized(pe_delivery=delivery, **options)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        ours = model(image)
        expected = expected_pyramid(model, image)
    for got, wanted in zip(ours, expected):
        assert got.shape == wanted.shape and got.is_contiguous()
        assert torch.allclose(got.double(), wanted, atol=1e-4, rtol=1e-3)


def test_a_patch_size_of_16_may_be_a_pair():
    assert MPVGViTAdapter(TINY, patch_size=(16, 16), norm_cfg=BN).patch_embed.patch_size == 16


@pytest.mark.parametrize('size', SIZES)
def test_sizes_are_rounded_up_at_every_stride(size):
    maps = randomized()(torch.randn(2, 3, *size))
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
def test_fusion_is_that_of_the_published_segmentation_and_detection_code(vit_maps, fuse, delivery):
    model = randomized(vit_maps=vit_maps, pe_delivery=delivery)
    with torch.no_grad():
        pyramid, runs, outputs = parts_before_the_fusion(model, torch.randn(2, 3, 96, 64))
        expected = [norm(m) for norm, m in zip(model.output_norms, fuse(pyramid, runs))]
    for got, wanted in zip(outputs, expected):
        torch.testing.assert_close(got, wanted)


def test_both_fusions_agree_on_the_coarsest_level_alone():
    image = torch.randn(1, 3, 50, 77)
    with torch.no_grad():
        each, last = (randomized(vit_maps=name)(image) for name in ('each', 'last'))
    assert [m.shape for m in each] == [m.shape for m in last]
    assert [torch.equal(a, b) for a, b in zip(each, last)] == [False, False, False, True]


def test_the_last_map_reaches_every_level_up_to_its_edge_at_odd_sizes():
    model = randomized(vit_maps='last')
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
def test_every_parameter_receives_a_gradient(delivery, options):
    model = randomized(pe_delivery=delivery, **options).train()
    sum(m.square().mean() for m in model(torch.randn(2, 3, 64, 96))).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize('relative', [None, 'mlp', 'decomposed'])
def test_attention_biases_come_with_the_blocks(relative):
    model = randomized(
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


def test_checkpointing_changes_nothing():
    image = torch.randn(2, 3, 64, 96)
    gradients = []
    for with_cp in (False, True):
        model = randomized(with_cp=with_cp).train()
        sum(m.square().mean() for m in model(image)).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


def test_under_autocast_sampling_stays_in_float32():
    model = randomized()
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


def test_a_model_that_is_half_precision_as_a_whole_runs():
    model = randomized(gaussian_bias='head', relative_position='mlp')
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
def test_the_cuda_kernel_gives_what_the_cpu_does(dtype):
    model = randomized()
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

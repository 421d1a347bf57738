"""MPVGViTAdapter against a transcription of ViT-Adapter's equations."""

import math

import pytest
import torch
import torch.nn.functional as F

TOKENS = dict(with_cls_token=True, num_registers=2)
WINDOWS = dict(window_size=3, global_blocks=(3,))


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
def test_pyramid_is_that_of_the_papers_equations(size, delivery, options, randomized_adapter):
    model = randomized_adapter(pe_delivery=delivery, **options)
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        ours = model(image)
        expected = expected_pyramid(model, image)
    for got, wanted in zip(ours, expected):
        assert got.shape == wanted.shape and got.is_contiguous()
        assert torch.allclose(got.double(), wanted, atol=1e-4, rtol=1e-3)

"""ViTDet's pyramid."""

import pytest
import torch
import torch.nn.functional as F

from mmpvg.models import MPVGViT, SimpleFeaturePyramid


@pytest.mark.parametrize(
    'arch', ['deit-tiny', 'deit-small', 192, dict(embed_dims=64, num_layers=1, num_heads=1)]
)
def test_widths_follow_from_the_backbone(arch):
    neck = SimpleFeaturePyramid(arch, out_channels=32)
    dims = neck.in_channels
    maps = neck(torch.randn(2, dims, 14, 20))
    sizes = [(56, 80), (28, 40), (14, 20), (7, 10), (4, 5)]
    assert [tuple(m.shape) for m in maps] == [(2, 32, *size) for size in sizes]
    laterals = [level[-4].in_channels for level in neck.levels]
    assert laterals == [dims // 4, dims // 2, dims, dims]


def test_parameter_count_of_vitdet_base():
    """Counted by hand from ViTDet's definition: D 768, 256 channels out."""
    d, out = 768, 256
    four = (d * d // 2 * 4 + d // 2) + 2 * (d // 2) + (d // 2 * d // 4 * 4 + d // 4)
    two = d * d // 2 * 4 + d // 2
    lateral = sum(width * out for width in (d // 4, d // 2, d, d)) + 4 * 2 * out
    output = 4 * (out * out * 9 + 2 * out)
    neck = SimpleFeaturePyramid('deit-base')
    assert sum(p.numel() for p in neck.parameters()) == four + two + lateral + output


def test_levels_against_plain_functions():
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(16, out_channels=8, scales=(2, 0.5), num_outs=3)
    for param in neck.parameters():
        torch.nn.init.normal_(param, std=0.3)
    x = torch.randn(1, 16, 5, 7)

    def norm2d(y, norm):
        centred = y - y.mean(1, keepdim=True)
        y = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return y * norm.weight[None, :, None, None] + norm.bias[None, :, None, None]

    def tail(y, convs):
        lateral, norm1, conv, norm2 = convs
        y = norm2d(F.conv2d(y, lateral.weight), norm1)
        return norm2d(F.conv2d(y, conv.weight, padding=1), norm2)

    up, down = neck.levels
    fine = tail(F.conv_transpose2d(x, up[0].weight, up[0].bias, stride=2), up[1:])
    # An odd grid keeps its last row and column.
    coarse = tail(F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-1e9), 2), down[1:])
    maps = neck((None, x))
    assert torch.allclose(maps[0], fine, atol=1e-5)
    assert torch.allclose(maps[1], coarse, atol=1e-5)
    assert torch.equal(maps[2], maps[1][:, :, ::2, ::2])


def test_maps_are_contiguous_whatever_comes_in():
    """mmcv's RoIAlign assumes it without a check."""
    neck = SimpleFeaturePyramid(16, out_channels=8)
    x = torch.randn(2, 16, 6, 9).to(memory_format=torch.channels_last)
    assert all(m.is_contiguous() for m in neck(x))


def test_every_parameter_receives_a_gradient():
    neck = SimpleFeaturePyramid(16, out_channels=8)
    sum(m.square().sum() for m in neck(torch.randn(1, 16, 6, 6))).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_a_backbone_of_another_width_is_named():
    maps = MPVGViT('deit-small', out_indices=(0,))(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match='384 channels.*192.*neck.in_channels=384'):
        SimpleFeaturePyramid('deit-tiny')(maps)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(in_channels=64, scales=(3,)), 'scale 3'),
        (dict(in_channels=6), '6 channels'),
        (dict(in_channels=64, num_outs=2), 'num_outs=2'),
        (dict(in_channels='deit-giant'), "'deit-giant'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**arguments)

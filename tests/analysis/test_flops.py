"""Multiply-adds against a count by hand."""

import pytest
import torch
from torch import nn

from mmpvg.analysis.flops import count_macs, part_costs
from mmpvg.models import MPVGViT, MPVGViTAdapter, SimpleFeaturePyramid

DIMS, HEADS, DEPTH, PATCH = 48, 3, 4, 16


def by_hand(grid, windows, extra=0):
    """A ViT's matrix products, counted on paper: windows lists, for each block, their sizes."""
    tokens = grid[0] * grid[1] + extra
    total = grid[0] * grid[1] * DIMS * 3 * PATCH**2
    for sizes in windows:
        linear = tokens * DIMS * DIMS * (3 + 1 + 4 + 4)  # qkv, projection, MLP
        attention = sum(2 * size**2 * DIMS for size in sizes)  # q k^T, and weights times v
        total += linear + attention
    return total


def window_sizes(grid, window):
    """Tokens of every window of a grid, edges included."""
    down = [min(window, grid[0] - top) for top in range(0, grid[0], window)]
    across = [min(window, grid[1] - left) for left in range(0, grid[1], window)]
    return [height * width for height in down for width in across]


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('bias', [None, 'head'])
@pytest.mark.parametrize('grid', [(14, 14), (9, 17)])
def test_a_vit_with_windows(grid, bias, fused):
    arch = dict(embed_dims=DIMS, num_layers=DEPTH, num_heads=HEADS)
    vit = MPVGViT(arch, window_size=5, global_blocks=(1, 3), gaussian_bias=bias)
    for block in vit.blocks:
        block.attn.fused = fused
    image = torch.zeros(1, 3, grid[0] * PATCH, grid[1] * PATCH)
    local, everywhere = window_sizes(grid, 5), [grid[0] * grid[1]]
    expected = by_hand(grid, [local, everywhere, local, everywhere])
    macs, _ = count_macs(lambda: vit(image), vit)
    if bias:
        # The Gaussian itself is an outer product of its two axes, in every block.
        assert expected <= macs < expected * 1.05
    else:
        assert macs == expected
    assert all(block.attn.fused == fused for block in vit.blocks), 'the kernel is not put back'
    assert all(parameter.requires_grad for parameter in vit.parameters())


def test_a_class_token_and_registers_are_tokens():
    arch = dict(embed_dims=DIMS, num_layers=DEPTH, num_heads=HEADS)
    vit = MPVGViT(arch, with_cls_token=True, num_registers=2)
    macs, _ = count_macs(lambda: vit(torch.zeros(1, 3, 96, 160)), vit)
    assert macs == by_hand((6, 10), [[63]] * DEPTH, extra=3)


@pytest.mark.parametrize('grid', [(4, 6), (5, 3)])
def test_vit_adapter(grid):
    arch = dict(embed_dims=DIMS, num_layers=DEPTH, num_heads=HEADS)
    channels, ratio, points = 8, 0.5, 4
    adapter = MPVGViTAdapter(
        arch, norm_cfg=dict(type='BN'), conv_channels=channels, deform_ratio=ratio
    )
    height, width = grid[0] * PATCH, grid[1] * PATCH
    macs, _ = count_macs(lambda: adapter(torch.zeros(1, 3, height, width)), adapter)

    cells = {s: -(-height // s) * -(-width // s) for s in (2, 4, 8, 16, 32)}
    tokens, pyramid = cells[16], cells[8] + cells[16] + cells[32]
    # 3x3 convolutions of the prior, and its 1x1 projections.
    convolutions = cells[2] * 9 * channels * (3 + channels + channels)
    convolutions += 9 * channels**2 * (cells[8] * 2 + cells[16] * 2 * 4 + cells[32] * 4 * 4)
    convolutions += channels * DIMS * (cells[4] + cells[8] * 2 + cells[16] * 4 + cells[32] * 4)
    # The transposed convolution touches every cell of stride 8 with its four taps.
    convolutions += cells[8] * 4 * DIMS**2

    def attention(queries, keys, levels):
        samples = HEADS * levels * points
        value = int(DIMS * ratio)
        linear = queries * DIMS * samples * (2 + 1) + (queries + keys) * DIMS * value
        # Each sample: a value of value / HEADS channels, from four neighbors, weighted.
        return linear + queries * samples * (value // HEADS) * 5

    hidden = DIMS // 4
    mlp = pyramid * (2 * DIMS * hidden + 9 * hidden)
    injectors = 4 * attention(tokens, pyramid, 3)
    extractors = 6 * (attention(pyramid, tokens, 1) + mlp)
    vit = by_hand(grid, [[tokens]] * DEPTH)
    assert macs == vit + convolutions + injectors + extractors


def test_parts_are_counted_one_by_one():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = MPVGViT(dict(embed_dims=DIMS, num_layers=2, num_heads=HEADS))
            self.neck = SimpleFeaturePyramid(DIMS, out_channels=8, scales=(1,), num_outs=1)
            self.head = None

    costs = {cost.name: cost for cost in part_costs(Model(), (64, 96))}
    assert list(costs) == ['backbone', 'neck']
    assert costs['backbone'].macs == by_hand((4, 6), [[24]] * 2)
    # A 1x1 and a 3x3 convolution at stride 16.
    assert costs['neck'].macs == 24 * (DIMS * 8 + 9 * 8 * 8)
    assert costs['backbone'].parameters == sum(p.numel() for p in Model().backbone.parameters())


@pytest.mark.parametrize(
    ('config', 'parts'),
    [
        ('sample/mask_rcnn_vit_mpvg_sample', ['rpn_head', 'roi_head.bbox', 'roi_head.mask']),
        ('sample/upernet_vit_mpvg_sample', ['neck', 'decode_head', 'serve training alone']),
        ('sample/classifier_vit_mpvg_sample', ['backbone', 'neck', '| head']),
        ('sample/retriever_vit_mpvg-ggem_sample', ['image_encoder']),
    ],
)
def test_the_tool(run_tool, repo, capsys, config, parts):
    run_tool('analysis_tools/get_flops.py', repo / f'configs/{config}.py', '--shape', 64, 96)
    table = capsys.readouterr().out
    assert all(part in table for part in parts), table
    rows = [line.split('|')[1:4] for line in table.splitlines() if line.startswith('| ')][1:]
    *each, total = [(float(parameters), float(macs)) for _, parameters, macs in rows]
    assert sum(p for p, _ in each) == pytest.approx(total[0], abs=0.02)
    assert sum(m for _, m in each) == pytest.approx(total[1], abs=0.02)

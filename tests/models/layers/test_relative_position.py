"""Relative position: timm's MLP, a double loop of ViTDet's, both paths of attention, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from timm.layers import RelPosMlp

from mmpvg.models.layers import (
    Attention,
    DecomposedRelativePosition,
    GaussianAttentionBias,
    RelativePositionMlp,
)

GRIDS = [(14, 14), (9, 17), (1, 5)]


def randomized(module, std=0.5):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return module


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('num_extra', [0, 1])
def test_the_mlp_is_timms(grid, num_extra):
    oracle = randomized(RelPosMlp(grid, num_heads=3, prefix_tokens=num_extra)).eval()
    ours = RelativePositionMlp(3)
    ours.load_state_dict(oracle.state_dict())
    assert torch.allclose(ours(grid, num_extra), oracle.get_bias()[0], atol=1e-5)


def double_loop(module, q, grid):
    """The product of every query with the row and column vectors of every offset."""
    h, w = grid
    num_extra = q.shape[2] - h * w
    term = torch.zeros(*q.shape[:3], q.shape[2], dtype=q.dtype)
    middle = [(len(table) - 1) // 2 for table in (module.rows, module.columns)]
    for i in range(h * w):
        for j in range(h * w):
            down, right = i // w - j // w, i % w - j % w
            vector = module.rows[middle[0] + down] + module.columns[middle[1] + right]
            term[:, :, num_extra + i, num_extra + j] = q[:, :, num_extra + i] @ vector
    return term


@pytest.mark.parametrize('grid', [(7, 7), (4, 9), (1, 5)])
@pytest.mark.parametrize('num_extra', [0, 2])
def test_the_decomposed_one_is_a_double_loop(grid, num_extra):
    module = randomized(DecomposedRelativePosition(grid, 8))
    q, k = torch.randn(2, 2, 3, num_extra + grid[0] * grid[1], 8)
    expected = double_loop(module, q, grid)
    assert torch.allclose(module(q, grid), expected, atol=1e-5)
    augmented_q, augmented_k = module.augment(q, k, grid)
    product = augmented_q @ augmented_k.transpose(-2, -1)
    assert torch.allclose(product, q @ k.transpose(-2, -1) / math.sqrt(8) + expected, atol=1e-5)


def test_a_window_at_the_edge_sees_a_part_of_the_tables():
    window = randomized(DecomposedRelativePosition((5, 5), 8, resize=False))
    q = torch.randn(1, 2, 6, 8)
    assert torch.allclose(window(q, (3, 2)), double_loop(window, q, (3, 2)), atol=1e-5)
    with pytest.raises(ValueError, match='a window of 6 patches is larger than the 5'):
        window(torch.randn(1, 2, 36, 8), (6, 6))


def test_global_attention_resizes_the_tables_as_vitdet_does():
    native = randomized(DecomposedRelativePosition((7, 7), 8))
    grid = (4, 10)
    other = DecomposedRelativePosition(grid, 8)
    for name, side in (('rows', 4), ('columns', 10)):
        table = getattr(native, name).detach()
        resized = F.interpolate(table.T[None], 2 * side - 1, mode='linear')[0].T
        getattr(other, name).data = resized
    q = torch.randn(1, 2, 40, 8)
    assert torch.allclose(native(q, grid), double_loop(other, q, grid), atol=1e-5)


def attention(rel_pos, gaussian, window_size, grid):
    module = Attention(
        24,
        3,
        window_size,
        bias=GaussianAttentionBias(3) if gaussian else None,
        rel_pos=RelativePositionMlp(3)
        if rel_pos == 'mlp'
        else DecomposedRelativePosition(
            (window_size, window_size) if window_size else grid, 8, resize=not window_size
        ),
    )
    return randomized(module, std=0.3)


@pytest.mark.parametrize('gaussian', [False, True])
@pytest.mark.parametrize('rel_pos', ['mlp', 'decomposed'])
@pytest.mark.parametrize('window_size', [0, 5])
@pytest.mark.parametrize('grid', [(14, 14), (9, 17)])
def test_fused_and_explicit_attention_agree(grid, window_size, rel_pos, gaussian):
    module = attention(rel_pos, gaussian, window_size, grid)
    x = torch.randn(2, grid[0] * grid[1], 24)
    results = []
    for fused in (True, False):
        module.fused = fused
        module.zero_grad()
        out = module(x, grid)
        out.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in module.parameters()]
        assert all(gradient.any() for gradient in gradients)
        results.append([out.detach(), *gradients])
    for fused, explicit in zip(*results):
        assert torch.allclose(fused, explicit, atol=1e-3, rtol=1e-3)


def test_half_precision_attention_takes_it():
    for rel_pos in ('mlp', 'decomposed'):
        module = attention(rel_pos, True, 0, (5, 7))
        x = torch.randn(2, 35, 24)
        expected = module(x, (5, 7))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            out = module(x, (5, 7))
        assert out.dtype == torch.bfloat16
        assert (out - expected).norm() < 0.05 * expected.norm()

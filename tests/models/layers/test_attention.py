"""Fused against explicit attention, windows against a padded and masked oracle."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmpvg.models.layers import Attention, scaled_dot_product

GRIDS = [(9, 17), (14, 14), (20, 15), (30, 33), (4, 40)]


def test_scaled_dot_product_is_softmax_attention():
    q, k, v = torch.randn(3, 2, 3, 11, 8).double().unbind(0)
    weights = torch.exp(torch.einsum('bhid,bhjd->bhij', q, k) / 8**0.5)
    weights = weights / weights.sum(-1, keepdim=True)
    expected = torch.einsum('bhij,bhjd->bhid', weights, v)
    for fused in (True, False):
        assert torch.allclose(scaled_dot_product(q, k, v, fused=fused), expected)


def masked_window_oracle(attention, x, grid):
    """Global attention over the padded grid with a mask of the padding and of other windows."""
    h, w = grid
    size = attention.window_size
    padded_h, padded_w = -(-h // size) * size, -(-w // size) * size
    # The padding must not matter.
    junk = torch.full((x.shape[0], padded_h, padded_w, x.shape[2]), 1e3)
    junk[:, :h, :w] = x.unflatten(1, grid)
    y, x_ = torch.meshgrid(torch.arange(padded_h), torch.arange(padded_w), indexing='ij')
    cell = (y // size * padded_w + x_ // size).flatten()
    real = ((y < h) & (x_ < w)).flatten()
    allowed = (cell[:, None] == cell[None, :]) & real[None, :]
    # A padded query with no key left would be NaN; it is thrown away below.
    allowed = allowed | (~real[:, None] & (cell[:, None] == cell[None, :]))
    q, k, v = (
        attention.qkv(junk.flatten(1, 2))
        .unflatten(2, (3, attention.num_heads, -1))
        .permute(2, 0, 3, 1, 4)
    )
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    out = attention.proj(out.transpose(1, 2).flatten(2))
    return out.unflatten(1, (padded_h, padded_w))[:, :h, :w].flatten(1, 2)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('window_size', [7, 14])
def test_windows_equal_a_padded_and_masked_run(grid, window_size):
    torch.manual_seed(0)
    attention = Attention(24, 3, window_size)
    x = torch.randn(2, grid[0] * grid[1], 24)
    expected = masked_window_oracle(attention, x, grid)
    assert torch.allclose(attention(x, grid), expected, atol=1e-5)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('window_size', [0, 14])
def test_fused_equals_explicit_in_value_and_gradient(grid, window_size):
    torch.manual_seed(0)
    attention = Attention(24, 3, window_size)
    x = torch.randn(2, grid[0] * grid[1], 24)
    results = []
    for fused in (True, False):
        attention.fused = fused
        attention.zero_grad()
        leaf = x.clone().requires_grad_()
        out = attention(leaf, grid)
        out.square().sum().backward()
        results.append([out.detach(), leaf.grad, *(p.grad.clone() for p in attention.parameters())])
    for fused, explicit in zip(*results):
        assert torch.allclose(fused, explicit, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize('shape', [(1, 20, 20), (3, 20, 20), (2, 3, 20, 20)])
def test_a_trained_bias_gets_the_gradient_of_torch(shape):
    """On the CPU the equation is computed step by step."""
    q, k, v = (t.requires_grad_() for t in torch.randn(3, 2, 3, 20, 8).unbind(0))
    bias = torch.randn(shape, requires_grad=True)
    leaves = (q, k, v, bias)
    mask = bias[None] if bias.ndim == 3 else bias
    outputs = [
        scaled_dot_product(q, k, v, bias=bias),
        F.scaled_dot_product_attention(q, k, v, mask),
    ]
    assert torch.allclose(*outputs, atol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), leaves) for out in outputs]
    for found, wanted in zip(*gradients):
        assert torch.allclose(found, wanted, atol=1e-4, rtol=1e-4)


def test_window_holding_the_whole_grid_is_global():
    torch.manual_seed(0)
    windowed, everywhere = Attention(16, 2, 14), Attention(16, 2, 0)
    everywhere.load_state_dict(windowed.state_dict())
    x = torch.randn(1, 9 * 14, 16)
    assert torch.equal(windowed(x, (9, 14)), everywhere(x, (9, 14)))


def test_global_attention_is_torch_multihead_attention():
    torch.manual_seed(0)
    attention, oracle = Attention(24, 4), nn.MultiheadAttention(24, 4, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(attention.qkv.weight)
        oracle.in_proj_bias.copy_(attention.qkv.bias)
        oracle.out_proj.load_state_dict(attention.proj.state_dict())
    x = torch.randn(2, 35, 24)
    assert torch.allclose(attention(x, (5, 7)), oracle(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [((192, 5), '192 channels.*5 heads'), ((12, 3, -1), 'window_size.*-1')],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Attention(*arguments)


@pytest.mark.parametrize('fused', [True, False])
def test_dropout_of_attention_weights(fused):
    torch.manual_seed(0)
    q, k = torch.randn(2, 4, 3, 32, 32).unbind(0)
    # With these values the result is the matrix of weights.
    v = torch.eye(32).expand(4, 3, -1, -1)
    weights = scaled_dot_product(q, k, v, fused=fused)
    dropped = scaled_dot_product(q, k, v, fused=fused, drop_rate=0.3)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], weights[kept] / 0.7)
    assert kept.float().mean().item() == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize('window_size', [0, 3])
def test_dropout_is_for_training(window_size):
    torch.manual_seed(0)
    plain, dropping = Attention(24, 3, window_size), Attention(24, 3, window_size, drop_rate=0.5)
    dropping.load_state_dict(plain.state_dict())
    x = torch.randn(2, 20, 24)
    torch.testing.assert_close(dropping.eval()(x, (4, 5)), plain(x, (4, 5)))
    dropping.train()
    assert not torch.equal(dropping(x, (4, 5)), dropping(x, (4, 5)))
    with pytest.raises(ValueError, match='got 1.0'):
        Attention(24, 3, drop_rate=1.0)

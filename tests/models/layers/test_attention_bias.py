"""The Gaussian attention bias: a literal double loop, attention with it, its gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from mmpvg.models.layers import Attention, GaussianAttentionBias


def double_loop(a, sigma, grid, num_extra=0):
    """docs/papers.md section 3, pair by pair; also the derivatives by a and sigma."""
    h, w = grid
    places = [(y, x) for y in range(h) for x in range(w)]
    size = num_extra + len(places)
    value, by_a, by_sigma = (torch.zeros(size, size, dtype=torch.float64) for _ in range(3))
    for i, (yi, xi) in enumerate(places, num_extra):
        for j, (yj, xj) in enumerate(places, num_extra):
            squared = (yi - yj) ** 2 + (xi - xj) ** 2
            bell = math.exp(-squared / (2 * sigma**2))
            value[i, j] = a**2 * bell
            by_a[i, j] = 2 * a * bell
            by_sigma[i, j] = a**2 * bell * squared / sigma**3
    return value, by_a, by_sigma


def make(a, sigma):
    bias = GaussianAttentionBias(len(a))
    bias.a.data, bias.sigma.data = torch.tensor(a), torch.tensor(sigma)
    return bias


@pytest.mark.parametrize('grid', [(14, 14), (9, 17), (1, 5)])
@pytest.mark.parametrize('num_extra', [0, 1, 3])
def test_value_and_gradients_are_those_of_a_double_loop(grid, num_extra):
    a, sigma = [1.0, -0.7], [5.0, 2.3]
    bias = make(a, sigma)
    size = num_extra + grid[0] * grid[1]
    upstream = torch.randn(2, size, size)
    found = bias(grid, num_extra)
    (found * upstream).sum().backward()
    for head in range(2):
        value, by_a, by_sigma = double_loop(a[head], sigma[head], grid, num_extra)
        assert torch.allclose(found[head].double(), value, atol=1e-6)
        weight = upstream[head].double()
        assert bias.a.grad[head].item() == pytest.approx((by_a * weight).sum().item(), rel=1e-4)
        assert bias.sigma.grad[head].item() == pytest.approx(
            (by_sigma * weight).sum().item(), rel=1e-3, abs=1e-4
        )


def test_it_starts_as_the_paper_says():
    bias = GaussianAttentionBias(3)
    assert bias.a.tolist() == [1.0] * 3 and bias.sigma.tolist() == [5.0] * 3


@pytest.mark.parametrize('heads', [1, 3])
@pytest.mark.parametrize('num_extra', [0, 2])
@pytest.mark.parametrize('grid', [(14, 14), (9, 17)])
def test_fused_and_explicit_attention_agree(heads, num_extra, grid):
    torch.manual_seed(0)
    bias = make([2.0, -1.5, 0.5][:heads], [3.0, 1.2, 8.0][:heads])
    attention = Attention(24, 3, bias=bias)
    x = torch.randn(2, num_extra + grid[0] * grid[1], 24)
    results = []
    for fused in (True, False):
        attention.fused = fused
        attention.zero_grad()
        out = attention(x, grid)
        out.square().sum().backward()
        results.append((out.detach(), bias.a.grad.clone(), bias.sigma.grad.clone()))
    for fused, explicit in zip(*results):
        assert torch.allclose(fused, explicit, atol=1e-5, rtol=1e-3)
    # Against the equation, with the double loop's bias.
    attention.fused = True
    q, k, v = attention.qkv(x).unflatten(2, (3, 3, 8)).permute(2, 0, 3, 1, 4).unbind(0)
    logits = q @ k.transpose(-2, -1) / math.sqrt(8)
    for head in range(3):
        at = min(head, heads - 1)
        loop, _, _ = double_loop(bias.a[at].item(), bias.sigma[at].item(), grid, num_extra)
        logits[:, head] += loop.float()
    expected = attention.proj((logits.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(x, grid), expected, atol=1e-5)


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('grid', [(14, 14), (9, 17), (12, 5)])
def test_in_windows_it_is_the_windows_own_bias(grid, fused):
    """Against global attention in which tokens of other windows are masked."""
    torch.manual_seed(0)
    window = 5
    bias = make([2.0, -1.5, 0.5], [3.0, 1.2, 8.0])
    attention = Attention(24, 3, window, bias=bias)
    attention.fused = fused
    x = torch.randn(2, grid[0] * grid[1], 24)
    y, column = torch.meshgrid(*(torch.arange(side) // window for side in grid), indexing='ij')
    of = (y * 100 + column).flatten()
    mask = torch.where(of[:, None] == of[None, :], 0.0, -torch.inf)
    # Offsets inside a window are those of the image.
    whole = bias(grid) + mask
    q, k, v = attention.qkv(x).unflatten(2, (3, 3, 8)).permute(2, 0, 3, 1, 4).unbind(0)
    expected = F.scaled_dot_product_attention(q, k, v, whole.expand(2, -1, -1, -1))
    expected = attention.proj(expected.transpose(1, 2).flatten(2))
    found = attention(x, grid)
    assert torch.allclose(found, expected, atol=1e-5)
    found.square().sum().backward()
    gradient = bias.sigma.grad.clone()
    bias.zero_grad()
    expected.square().sum().backward()
    assert torch.allclose(gradient, bias.sigma.grad, rtol=1e-3, atol=1e-4)


def test_no_amplitude_is_no_bias():
    torch.manual_seed(0)
    attention = Attention(24, 3, bias=make([0.0, 0.0, 0.0], [5.0, 1.0, 0.1]))
    plain = Attention(24, 3)
    plain.load_state_dict(attention.state_dict(), strict=False)
    x = torch.randn(2, 35, 24)
    for fused in (True, False):
        attention.fused = plain.fused = fused
        assert torch.allclose(attention(x, (5, 7)), plain(x, (5, 7)), atol=1e-6)


@pytest.mark.parametrize('sigma', [0.0, -3.0, 1e-20, 1e20])
def test_no_width_gives_nan(sigma):
    bias = make([1.0], [sigma])
    found = bias((4, 6))
    found.sum().backward()
    assert found.isfinite().all()
    assert bias.sigma.grad.isfinite().all() and bias.a.grad.isfinite().all()
    if sigma == 0:
        assert torch.equal(found[0], torch.eye(24))


def test_half_precision_attention_takes_it():
    attention = Attention(24, 3, bias=GaussianAttentionBias(3))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = attention(torch.randn(2, 35, 24), (5, 7))
        assert out.dtype == torch.bfloat16 and attention.bias((5, 7)).dtype == torch.float32
    out.float().sum().backward()
    assert attention.bias.sigma.grad.isfinite().all()

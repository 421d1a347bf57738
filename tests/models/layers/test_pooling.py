"""Average, GeM and GGeM against the equation in numpy, and where a naive power overflows."""

import numpy as np
import pytest
import torch

from mmpvg.models.layers import AveragePooling, GeneralizedMeanPooling


def equation(tokens, exponents, eps=1e-6):
    """docs/papers.md section 2, in double precision."""
    values = np.maximum(tokens.numpy().astype(np.float64), eps)
    p = np.repeat(exponents, tokens.shape[2] // len(exponents))
    return (values**p).mean(axis=1) ** (1 / p)


@pytest.mark.parametrize('groups', [1, 3, 12])
def test_equation(groups):
    torch.manual_seed(0)
    pool = GeneralizedMeanPooling(12, groups)
    exponents = np.linspace(1, 7, groups)
    with torch.no_grad():
        pool.p.copy_(torch.from_numpy(exponents))
    tokens = torch.randn(2, 35, 12)
    np.testing.assert_allclose(pool(tokens).detach(), equation(tokens, exponents), rtol=2e-5)


def test_groups_are_contiguous():
    pool = GeneralizedMeanPooling(4, 2)
    with torch.no_grad():
        pool.p.copy_(torch.tensor([1.0, 50.0]))
    tokens = torch.tensor([1.0, 3.0])[None, :, None].expand(1, 2, 4)
    low, high = pool(tokens)[0].detach().split(2)
    assert torch.allclose(low, torch.tensor([2.0, 2.0]))
    assert torch.allclose(high, torch.tensor(3.0 * 0.5 ** (1 / 50)).expand(2))


def test_p_of_one_is_the_mean_of_the_clamped_values():
    tokens = torch.randn(2, 9, 6)
    pooled = GeneralizedMeanPooling(6, p=1)(tokens)
    assert torch.allclose(pooled, tokens.clamp(min=1e-6).mean(1), atol=1e-6)
    assert torch.equal(AveragePooling()(tokens), tokens.mean(1))


@pytest.mark.parametrize('p', [1, 3, 30, 100])
@pytest.mark.parametrize(
    'tokens',
    [
        -torch.rand(2, 50, 8) - 1,
        torch.zeros(2, 50, 8),
        torch.rand(2, 50, 8) * 1e30,
        torch.rand(2, 50, 8) * 1e-5,
        torch.rand(2, 1, 8),
    ],
    ids=['negative', 'zero', 'huge', 'tiny', 'one token'],
)
def test_extremes_stay_finite_in_value_and_gradient(tokens, p):
    pool = GeneralizedMeanPooling(8, groups=2, p=p)
    tokens = tokens.clone().requires_grad_()
    pooled = pool(tokens)
    (pooled / pooled.detach().amax()).sum().backward()
    for value in (pooled, tokens.grad, pool.p.grad):
        assert torch.isfinite(value).all()
    low, high = tokens.detach().clamp(min=1e-6).amin(1), tokens.detach().clamp(min=1e-6).amax(1)
    assert (pooled >= low * 0.999).all() and (pooled <= high * 1.001).all()


def test_gradients_are_those_of_the_equation():
    torch.manual_seed(0)
    tokens, p = torch.rand(2, 7, 6) + 0.1, torch.tensor([2.0, 5.0])
    pool = GeneralizedMeanPooling(6, groups=2)
    pool.p.data.copy_(p)
    weights = torch.randn(2, 6)
    leaf = tokens.clone().requires_grad_()
    (pool(leaf) * weights).sum().backward()

    def value(tokens, p):
        return (equation(tokens, p.numpy().astype(np.float64)) * weights.numpy()).sum()

    step = 1e-3
    for index in [(0, 0, 0), (1, 6, 5), (0, 3, 2)]:
        up, down = tokens.clone(), tokens.clone()
        up[index] += step
        down[index] -= step
        slope = (value(up, p) - value(down, p)) / (up[index] - down[index]).item()
        assert leaf.grad[index].item() == pytest.approx(slope, rel=1e-2, abs=1e-4)
    for group in range(2):
        up, down = p.clone(), p.clone()
        up[group] += step
        down[group] -= step
        slope = (value(tokens, up) - value(tokens, down)) / (2 * step)
        assert pool.p.grad[group].item() == pytest.approx(slope, rel=1e-2, abs=1e-4)


def test_computes_in_float32_inside_autocast():
    tokens = torch.rand(2, 50, 8)
    pool = GeneralizedMeanPooling(8, groups=4)
    with torch.autocast('cpu', torch.bfloat16):
        pooled = pool(tokens.bfloat16())
    # Computed in float32, given in the type of the tokens.
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled, pool(tokens.bfloat16().float()).bfloat16())


def test_fixed_exponents_are_no_parameters():
    pool = GeneralizedMeanPooling(8, p=4, learnable=False)
    assert not list(pool.parameters())
    assert pool.state_dict()['p'].tolist() == [4.0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(channels=10, groups=3), '10 channels.*3 groups'),
        (dict(channels=10, groups=0), '0 groups'),
        (dict(channels=10, p=0.5), 'p=0.5'),
        (dict(channels=10, eps=0), 'eps=0'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeneralizedMeanPooling(**arguments)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r'\(B, N, 8\), got \(2, 8, 3, 3\)'):
        GeneralizedMeanPooling(8)(torch.zeros(2, 8, 3, 3))

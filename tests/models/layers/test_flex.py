"""The Gaussian bias inside flex attention, against the mask."""

import pytest
import torch

from mmpvg.models.layers import (
    Attention,
    GaussianAttentionBias,
    gaussian_flex_attention,
    has_flex_attention,
    scaled_dot_product,
)

needs_flex = pytest.mark.skipif(
    not has_flex_attention(), reason="this torch's flex_attention trains no bias (2.6 and later do)"
)


def bias(heads):
    module = GaussianAttentionBias(heads)
    module.a.data, module.sigma.data = torch.rand(2, heads) * 3 + 0.5
    return module


@needs_flex
@pytest.mark.parametrize('heads', [1, 3])
@pytest.mark.parametrize('num_extra', [0, 1])
@pytest.mark.parametrize('grid', [(14, 14), (9, 17)])
def test_it_is_the_mask(grid, num_extra, heads):
    torch.manual_seed(0)
    gaussian = bias(heads)
    q, k, v = torch.randn(3, 2, 3, num_extra + grid[0] * grid[1], 16)
    with torch.no_grad():
        found = gaussian_flex_attention(q, k, v, gaussian, grid, compiled=False)
        expected = scaled_dot_product(q, k, v, fused=False, bias=gaussian(grid, num_extra))
    assert torch.allclose(found, expected, atol=1e-5)


@needs_flex
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
@pytest.mark.parametrize('grid', [(14, 14), (9, 17), (64, 64)])
def test_gradients_on_cuda_are_those_of_the_mask(grid):
    torch.manual_seed(0)
    module = Attention(192, 3, bias=bias(3)).cuda()
    x = torch.randn(2, grid[0] * grid[1], 192, device='cuda')
    results = []
    for flex in (True, False):
        module.flex = flex
        module.zero_grad()
        out = module(x, grid)
        out.square().sum().backward()
        gradients = [p.grad.clone() for p in module.parameters()]
        results.append([out.detach(), *gradients])
    for found, expected in zip(*results):
        assert (found - expected).norm() < 1e-2 * expected.norm()

"""Multi-scale deformable attention against equation 3 of Deformable DETR, gathered by hand."""

import numpy as np
import pytest
import torch

from mmpvg.ops import extension
from tests.ops import calls, cases


def gathered(value, shapes, starts, locations, weights):
    """A weighted sum over maps and points; each point reads four pixels by their index."""
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    output = value.new_zeros(batch, queries, heads, channels)
    images = torch.arange(batch)[:, None, None, None]
    head = torch.arange(heads)[None, None, :, None]
    for level, ((height, width), start) in enumerate(zip(shapes.tolist(), starts.tolist())):
        # Pixel i has its center at (i + 0.5) / width.
        x = locations[:, :, :, level, :, 0] * width - 0.5
        y = locations[:, :, :, level, :, 1] * height - 0.5
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            i, j = y.detach().floor() + row, x.detach().floor() + column
            share = (1 - (y - i).abs()) * (1 - (x - j).abs())
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            index = (i.clamp(0, height - 1) * width + j.clamp(0, width - 1)).long() + start
            pixels = value[images.expand(-1, queries, heads, points), index, head]
            amount = share * inside * weights[:, :, :, level]
            output = output + (pixels * amount[..., None]).sum(3)
    return output.flatten(2)


@pytest.mark.parametrize('dtype, close', [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_of_500_cases(dtype, close):
    rng = np.random.default_rng(0)
    for _ in range(500):
        value, shapes, starts, locations, weights = cases.attention(rng)
        inputs = [t.to(dtype).requires_grad_() for t in (value, locations, weights)]
        expected = gathered(inputs[0], shapes, starts, *inputs[1:])
        tensors = (inputs[0].detach(), shapes, starts, *(t.detach() for t in inputs[1:]))
        got = calls.deformable_attention(extension, *tensors)
        near(got, expected, close)
        grad = torch.from_numpy(rng.normal(size=got.shape)).to(dtype)
        wanted = torch.autograd.grad(expected, inputs, grad)
        for a, b in zip(calls.deformable_attention(extension, *tensors, grad=grad), wanted):
            near(a, b, close)


def near(got, wanted, close):
    """Within ``close`` of the largest value."""
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= close * wanted.abs().max().clamp(min=1)


def test_it_is_what_mmcv_computes_on_the_cpu():
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    rng = np.random.default_rng(1)
    for _ in range(100):
        value, shapes, starts, locations, weights = cases.attention(rng)
        got = calls.deformable_attention(extension, value, shapes, starts, locations, weights)
        wanted = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
        near(got, wanted, 1e-12)


def test_mmcvs_function_trains_on_it(monkeypatch):
    """As on CUDA: mmcv's autograd function, with ours behind it; its gradients by differences."""
    from mmcv.ops import multi_scale_deform_attn as module

    monkeypatch.setattr(module, 'ext_module', extension)
    rng = np.random.default_rng(2)
    value, shapes, starts, locations, weights = cases.attention(rng)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]

    def attend(value, locations, weights):
        function = module.MultiScaleDeformableAttnFunction
        return function.apply(value, shapes, starts, locations, weights, 64)

    assert torch.autograd.gradcheck(attend, inputs)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    value, shapes, starts, *rest = cases.attention(np.random.default_rng(3))
    value, locations, weights = (t.to(dtype) for t in (value, *rest))
    got = calls.deformable_attention(extension, value, shapes, starts, locations, weights)
    lifted = (value.float(), shapes, starts, locations.float(), weights.float())
    expected = calls.deformable_attention(extension, *lifted)
    assert got.dtype == dtype and torch.equal(got, expected.to(dtype))
    grad = torch.randn(got.shape).to(dtype)
    grads = calls.deformable_attention(
        extension, value, shapes, starts, locations, weights, grad=grad
    )
    for a, b in zip(grads, calls.deformable_attention(extension, *lifted, grad=grad.float())):
        assert a.dtype == dtype and torch.equal(a, b.to(dtype))

"""Deformable convolution against its definition: a sum over samples taken one by one."""

import numpy as np
import pytest
import torch

from mmpvg.ops import extension
from tests.ops import calls, cases


def sample(image, y, x):
    """Bilinear value of (C, H, W) at a place; pixels outside are zero."""
    top, left = int(np.floor(y)), int(np.floor(x))
    value = 0.0
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                value = value + image[:, i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return value


def convolution(x, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups):
    """Equation 2 of DCN and 1 of DCNv2, without a mask or a bias where they are None."""
    batch, channels = x.shape[:2]
    filters, per_group, *kernel = weight.shape
    size = offset.shape[2:]
    output = np.zeros((batch, filters, *size))
    share = channels // deform_groups
    for b, i, j, g, u, v in np.ndindex(batch, *size, deform_groups, *kernel):
        point = (g * kernel[0] + u) * kernel[1] + v
        dy, dx = offset[b, 2 * point : 2 * point + 2, i, j]
        y = i * stride[0] - padding[0] + u * dilation[0] + dy
        z = j * stride[1] - padding[1] + v * dilation[1] + dx
        values = sample(x[b, g * share : (g + 1) * share], y, z) * np.ones(share)
        if mask is not None:
            values = values * mask[b, point, i, j]
        for c, value in enumerate(values, g * share):
            group = c // per_group
            own = slice(group * filters // groups, (group + 1) * filters // groups)
            output[b, own, i, j] += weight[own, c % per_group, u, v] * value
    return output if bias is None else output + bias[:, None, None]


def arrays(tensors):
    return [None if t is None else t.numpy() for t in tensors]


def test_values_of_both_versions():
    rng = np.random.default_rng(0)
    for _ in range(6):
        (x, offset, weight), where = cases.convolution(rng)
        got = calls.deform_conv(extension, x, offset, weight, *where)
        expected = convolution(*arrays((x, offset, None, weight, None)), *where)
        torch.testing.assert_close(got, torch.from_numpy(expected))
        tensors, where = cases.convolution(rng, modulated=True)
        got = calls.modulated_deform_conv(extension, *tensors, *where)
        torch.testing.assert_close(got, torch.from_numpy(convolution(*arrays(tensors), *where)))


def between(offset):
    """Offsets that keep away from whole pixels, where a bilinear value has no derivative."""
    return offset.floor() + 0.1 + 0.8 * (offset - offset.floor())


def test_gradients_are_those_of_finite_differences(monkeypatch):
    """Through mmcv's autograd functions, whose own extension may be another."""
    from mmcv.ops import deform_conv as v1
    from mmcv.ops import modulated_deform_conv as v2

    monkeypatch.setattr(v1, 'ext_module', extension)
    monkeypatch.setattr(v2, 'ext_module', extension)
    rng = np.random.default_rng(1)
    for _ in range(2):
        (x, offset, *rest), where = cases.convolution(rng)
        inputs = [t.requires_grad_() for t in (x, between(offset), *rest)]
        assert torch.autograd.gradcheck(
            lambda *t, where=where: v1.deform_conv2d(*t, *where, False, 2), inputs
        )
        (x, offset, *rest), where = cases.convolution(rng, modulated=True)
        tensors = (x, between(offset), *rest)
        inputs = [None if t is None else t.requires_grad_() for t in tensors]
        assert torch.autograd.gradcheck(
            lambda *t, where=where: v2.modulated_deform_conv2d(*t, *where), inputs
        )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('modulated', [False, True])
def test_half_precision_is_rounded_once(modulated, dtype):
    tensors, where = cases.convolution(np.random.default_rng(2), modulated)
    tensors = [None if t is None else t.to(dtype) for t in tensors]
    floats = [None if t is None else t.float() for t in tensors]
    call = calls.modulated_deform_conv if modulated else calls.deform_conv
    got = call(extension, *tensors, *where)
    assert got.dtype == dtype
    assert torch.equal(got, call(extension, *floats, *where).to(dtype))
    grad = torch.randn(got.shape).to(dtype)
    grads = call(extension, *tensors, *where, grad=grad)
    for a, b in zip(grads, call(extension, *floats, *where, grad=grad.float())):
        assert a.dtype == dtype and torch.equal(a, b.to(dtype))


def test_the_scale_of_the_weights_gradient():
    (x, offset, weight), where = cases.convolution(np.random.default_rng(3))
    grad = torch.ones(calls.deform_conv(extension, x, offset, weight, *where).shape).double()
    expected = calls.deform_conv(extension, x, offset, weight, *where, grad=grad)[2]
    got, empty = torch.zeros_like(weight), x.new_empty(0)
    settings = calls._v1(*where, weight.shape[2:], len(x))
    extension.deform_conv_backward_parameters(
        x, offset, grad, got, empty, empty, scale=0.5, **settings
    )
    torch.testing.assert_close(got, expected / 2)


def test_modules_of_mmcv_without_offsets_are_convolutions(monkeypatch):
    from mmcv.ops import DeformConv2dPack, ModulatedDeformConv2dPack
    from mmcv.ops import deform_conv as v1
    from mmcv.ops import modulated_deform_conv as v2

    monkeypatch.setattr(v1, 'ext_module', extension)
    monkeypatch.setattr(v2, 'ext_module', extension)
    x = torch.randn(2, 4, 7, 9)
    plain = DeformConv2dPack(4, 6, 3, padding=1)
    expected = torch.nn.functional.conv2d(x, plain.weight, padding=1)
    torch.testing.assert_close(plain(x), expected, atol=1e-5, rtol=1e-5)
    modulated = ModulatedDeformConv2dPack(4, 6, 3, padding=1)
    # The masks start at sigmoid(0).
    expected = torch.nn.functional.conv2d(x, modulated.weight / 2, modulated.bias, padding=1)
    torch.testing.assert_close(modulated(x), expected, atol=1e-5, rtol=1e-5)

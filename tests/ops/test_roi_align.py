"""RoIAlign against its definition: means of bilinear samples, read off the map one by one."""

import math

import numpy as np
import pytest
import torch

from mmpvg.ops import extension
from tests.ops import calls, cases


def bilinear(image, y, x):
    """A value of (H, W) between pixel centers; clamped to the map up to one pixel outside."""
    height, width = image.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    return (1 - dy) * ((1 - dx) * image[top, left] + dx * image[top, right]) + dy * (
        (1 - dx) * image[bottom, left] + dx * image[bottom, right]
    )


def roi_align(maps, rois, size, scale, ratio, aligned):
    half = 0.5 if aligned else 0.0
    output = np.zeros((len(rois), maps.shape[1], *size))
    for k, (index, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (corner * scale - half for corner in corners)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        bin_h, bin_w = height / size[0], width / size[1]
        ny, nx = (ratio or math.ceil(side) for side in (bin_h, bin_w))
        for c, i, j in np.ndindex(maps.shape[1], *size):
            samples = [
                bilinear(
                    maps[int(index), c],
                    y1 + (i + (a + 0.5) / ny) * bin_h,
                    x1 + (j + (b + 0.5) / nx) * bin_w,
                )
                for a in range(ny)
                for b in range(nx)
            ]
            output[k, c, i, j] = np.mean(samples) if samples else 0
    return output


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('size', [(1, 1), (2, 3)])
def test_values_are_means_of_samples(size, ratio, aligned):
    rng = np.random.default_rng(0)
    x = cases.tensor(rng, 2, 3, 7, 10)
    rois = cases.rois(rng, 12, 2, 14, 20)
    # float64 keeps rounding from moving a sample over the edge of the map.
    got = calls.roi_align(extension, x, rois, size, 0.5, ratio, aligned)
    expected = roi_align(x.numpy(), rois.numpy(), size, 0.5, ratio, aligned)
    torch.testing.assert_close(got, torch.from_numpy(expected))


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_the_gradient_is_that_of_finite_differences(ratio, aligned):
    """RoIAlign is linear in the map, so differences are exact."""
    rng = np.random.default_rng(1)
    x, rois = cases.tensor(rng, 2, 2, 4, 5), cases.rois(rng, 6, 2, 4, 5)
    where = ((2, 2), 1.0, ratio, aligned)
    weights = cases.tensor(rng, 6, 2, 2, 2)
    got = calls.roi_align(extension, x, rois, *where, grad=weights)
    expected = torch.zeros_like(x)
    for index in np.ndindex(*x.shape):
        unit = torch.zeros_like(x)
        unit[index] = 1
        expected[index] = (calls.roi_align(extension, unit, rois, *where) * weights).sum()
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    rng = np.random.default_rng(2)
    x, rois = cases.tensor(rng, 2, 3, 7, 10).to(dtype), cases.rois(rng, 9, 2, 7, 10).to(dtype)
    where = ((3, 2), 1.0, 2, True)
    got = calls.roi_align(extension, x, rois, *where)
    assert got.dtype == dtype
    assert torch.equal(got, calls.roi_align(extension, x.float(), rois.float(), *where).to(dtype))
    grad = torch.randn(got.shape).to(dtype)
    got = calls.roi_align(extension, x, rois, *where, grad=grad)
    expected = calls.roi_align(extension, x.float(), rois.float(), *where, grad=grad.float())
    assert got.dtype == dtype and torch.equal(got, expected.to(dtype))


def test_rois_may_be_of_another_precision_than_the_map():
    rng = np.random.default_rng(3)
    x, rois = cases.tensor(rng, 1, 3, 7, 10).bfloat16(), cases.rois(rng, 4, 1, 7, 10).float()
    got = calls.roi_align(extension, x, rois, (2, 2), 1.0, 2, True)
    expected = calls.roi_align(extension, x.float(), rois, (2, 2), 1.0, 2, True)
    assert torch.equal(got, expected.bfloat16())


def test_no_roi_and_maps_that_are_not_contiguous():
    rng = np.random.default_rng(4)
    x = cases.tensor(rng, 2, 3, 7, 10).float().contiguous(memory_format=torch.channels_last)
    none = torch.zeros(0, 5)
    assert calls.roi_align(extension, x, none, (2, 3), 1.0, 0, True).shape == (0, 3, 2, 3)
    grad = torch.zeros(0, 3, 2, 3)
    assert not calls.roi_align(extension, x, none, (2, 3), 1.0, 0, True, grad=grad).any()
    rois = cases.rois(rng, 4, 2, 7, 10).float()
    got = calls.roi_align(extension, x, rois, (2, 3), 1.0, 2, True)
    expected = calls.roi_align(extension, x.contiguous(), rois, (2, 3), 1.0, 2, True)
    assert torch.equal(got, expected)


def test_a_roi_turned_around_is_refused_as_compiled_mmcv_does():
    rois = torch.tensor([[0.0, 5, 1, 3, 4]])
    with pytest.raises(RuntimeError, match='x2 < x1'):
        calls.roi_align(extension, torch.rand(1, 1, 6, 6), rois, (2, 2), 1.0, 0, True)


def test_the_maximum_is_not_there():
    x, rois, empty = torch.rand(1, 1, 6, 6), torch.tensor([[0.0, 1, 1, 3, 4]]), torch.zeros(0)
    with pytest.raises(NotImplementedError, match='pool_mode.*setup_env.sh --ops compiled'):
        extension.roi_align_forward(x, rois, torch.zeros(1), empty, empty, 1, 1, 1.0, 0, 0, True)

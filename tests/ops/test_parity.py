"""Ours beside compiled mmcv's: the same values and gradients, in a thousand cases of each operator.

Compiled mmcv has deformable attention and focal losses on CUDA alone. On the CPU it computes
deformable attention in Python, which test_deformable_attention.py compares with.
"""

import importlib

import numpy as np
import pytest
import torch

from mmpvg.ops import extension
from tests.ops import calls, cases

CASES = 1000


def near(got, wanted, close=1e-5):
    """Within ``close`` of the largest value, or of 1, where inputs' sums cancel."""
    assert got.shape == wanted.shape and got.dtype == wanted.dtype
    if wanted.numel():
        assert (got - wanted).abs().max() <= close * wanted.abs().max().clamp(min=1)


def on(device, values, dtype=torch.float32):
    """Moves tensors; floating ones to ``dtype``."""
    return [
        v if v is None else v.to(device, dtype if v.is_floating_point() else v.dtype)
        for v in values
    ]


def same_boxes(compiled, boxes, scores, threshold, offset):
    settings = dict(iou_threshold=threshold, offset=offset)
    got, wanted = (ext.nms(boxes, scores, **settings) for ext in (extension, compiled))
    assert torch.equal(got, wanted)
    return len(got)


@pytest.mark.parametrize('offset', [0, 1])
def test_nms(compiled, device, offset):
    rng = np.random.default_rng(offset)
    kept = 0
    for i in range(CASES // 2):
        n = i if i < 3 else int(rng.integers(2, 120))
        boxes = cases.boxes(rng, n, whole=rng.random() < 0.3, flat=rng.choice([0.1, 1]))
        scores = cases.scores(rng, n, ties=rng.random() < 0.3)
        boxes, scores = on(device, (boxes, scores))
        kept += same_boxes(compiled, boxes, scores, float(rng.choice([0.3, 0.5, 0.6, 0.7])), offset)
    assert kept > CASES


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('n', [0, 1, 100, 1000, 10000])
def test_nms_of_many_boxes(compiled, device, n, offset):
    rng = np.random.default_rng(n)
    boxes, scores = on(device, (cases.boxes(rng, n, side=800), cases.scores(rng, n)))
    same_boxes(compiled, boxes, scores, 0.7, offset)


@pytest.mark.parametrize('n', [0, 1, 300, 12000])
def test_batched_nms_of_mmcv(compiled, device, n, monkeypatch):
    """12,000 boxes are split by class."""
    # The package has a function of this name.
    module = importlib.import_module('mmcv.ops.nms')
    rng = np.random.default_rng(n)
    boxes, scores = on(device, (cases.boxes(rng, n), cases.scores(rng, n, ties=True)))
    classes = torch.from_numpy(rng.integers(0, 5, n)).to(device)
    results = []
    for ext in (extension, compiled):
        monkeypatch.setattr(module, 'ext_module', ext)
        for kind in ('nms', 'soft_nms'):
            if kind == 'nms' or 0 < n < 1000:
                cfg = dict(type=kind, iou_threshold=0.5)
                results.append(module.batched_nms(boxes, scores, classes, cfg) if n else ())
    half = len(results) // 2
    for got, wanted in zip(results[:half], results[half:]):
        for a, b in zip(got, wanted):
            assert torch.equal(a, b)


def test_softnms(compiled):
    rng = np.random.default_rng(0)
    for i in range(CASES):
        n = i if i < 3 else int(rng.integers(2, 40))
        boxes = cases.boxes(rng, n, side=40, flat=rng.choice([0.1, 1]))
        scores = cases.scores(rng, n, ties=rng.random() < 0.3)
        settings = dict(
            iou_threshold=0.3,
            sigma=0.5,
            min_score=0.05,
            method=int(rng.integers(0, 3)),
            offset=int(rng.integers(0, 2)),
        )
        (got, kept), (wanted, expected) = (
            calls.softnms(ext, boxes, scores, **settings) for ext in (extension, compiled)
        )
        assert torch.equal(kept, expected)
        torch.testing.assert_close(got, wanted, equal_nan=True)


def test_bbox_overlaps(compiled, device):
    rng = np.random.default_rng(0)
    for _ in range(CASES):
        n, m = (int(k) for k in rng.integers(1, 9, 2))
        aligned, mode, offset = bool(rng.integers(0, 2)), *(int(k) for k in rng.integers(0, 2, 2))
        first, second = cases.boxes(rng, n), cases.boxes(rng, n if aligned else m)
        first, second = on(device, (first, second))
        got, wanted = (
            calls.bbox_overlaps(ext, first, second, mode, aligned, offset)
            for ext in (extension, compiled)
        )
        torch.testing.assert_close(got, wanted, equal_nan=True)


def test_roi_align(compiled, device):
    rng = np.random.default_rng(0)
    for i in range(CASES):
        batch, channels = (int(n) for n in rng.integers(1, 4, 2))
        height, width = cases.pair(rng, 3, 9)
        x = cases.tensor(rng, batch, channels, height, width)
        rois = cases.rois(rng, i % 7, batch, height * 4, width * 4, flat=rng.choice([0.1, 1]))
        x, rois = on(device, (x, rois))
        size, ratio, aligned = cases.pair(rng, 1, 4), int(rng.integers(0, 4)), rng.random() < 0.6
        where = (size, 0.25, ratio, bool(aligned))
        got, wanted = (calls.roi_align(e, x, rois, *where) for e in (extension, compiled))
        near(got, wanted)
        grad = torch.randn_like(got)
        near(*(calls.roi_align(e, x, rois, *where, grad=grad) for e in (extension, compiled)))


@pytest.mark.parametrize('modulated', [False, True], ids=['v1', 'v2'])
def test_deformable_convolution(compiled, device, modulated):
    rng = np.random.default_rng(0)
    call = calls.modulated_deform_conv if modulated else calls.deform_conv
    for _ in range(CASES):
        tensors, where = cases.convolution(rng, modulated)
        tensors = on(device, tensors)
        got, wanted = (call(ext, *tensors, *where) for ext in (extension, compiled))
        near(got, wanted)
        grad = torch.randn_like(got)
        for a, b in zip(*(call(e, *tensors, *where, grad=grad) for e in (extension, compiled))):
            near(a, b)


def test_deformable_attention(compiled, cuda):
    rng = np.random.default_rng(0)
    for _ in range(CASES):
        tensors = on(cuda, cases.attention(rng))
        got, wanted = (calls.deformable_attention(e, *tensors) for e in (extension, compiled))
        near(got, wanted)
        grad = torch.randn_like(got)
        for a, b in zip(
            *(calls.deformable_attention(e, *tensors, grad=grad) for e in (extension, compiled))
        ):
            near(a, b)


@pytest.mark.parametrize('name', ['sigmoid_focal_loss', 'softmax_focal_loss'])
def test_focal_losses(compiled, cuda, name):
    from mmcv.ops import focal_loss as module

    rng = np.random.default_rng(0)
    for _ in range(CASES):
        n, classes = (int(k) for k in rng.integers(1, 8, 2))
        x = torch.from_numpy(rng.normal(size=(n, classes))).float().to(cuda)
        target = torch.from_numpy(rng.integers(0, classes, n)).to(cuda)
        results = []
        for ext in (extension, compiled):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, 'ext_module', ext)
                logits = x.clone().requires_grad_()
                loss = getattr(module, name)(logits, target, 2.0, 0.25, None, 'sum')
                results.append((loss.detach(), *torch.autograd.grad(loss, logits)))
        for got, wanted in zip(*results):
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('modulated', [False, True], ids=['v1', 'v2'])
def test_bfloat16_is_what_compiled_mmcv_gives_in_float32(compiled, device, modulated):
    """Compiled mmcv takes no bfloat16; rounding its output once is the most that can be asked."""
    rng = np.random.default_rng(1)
    call = calls.modulated_deform_conv if modulated else calls.deform_conv
    for _ in range(100):
        tensors, where = cases.convolution(rng, modulated)
        halves = on(device, tensors, torch.bfloat16)
        wanted = call(compiled, *on(device, halves), *where)
        near(call(extension, *halves, *where).float(), wanted, 2**-8)
        maps = cases.tensor(rng, 2, 3, 9, 7)
        maps, rois = on(device, (maps, cases.rois(rng, 5, 2, 9, 7)), torch.bfloat16)
        # Whether x2 < x1 may change when corners are rounded.
        rois[:, 3:] = torch.maximum(rois[:, 3:], rois[:, 1:3])
        where = ((2, 3), 1.0, 2, True)
        wanted = calls.roi_align(compiled, *on(device, (maps, rois)), *where)
        near(calls.roi_align(extension, maps, rois, *where).float(), wanted, 2**-8)

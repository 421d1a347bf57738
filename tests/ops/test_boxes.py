"""``nms``, ``softnms`` and ``bbox_overlaps`` against loops that spell the rules out."""

import math

import numpy as np
import pytest
import torch

from mmpvg.ops import extension
from tests.ops import calls, cases


def overlap(a, b, offset):
    """IoU of two boxes, in float32 as the boxes."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + np.float32(offset), np.float32(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + np.float32(offset), np.float32(0))
    area_a, area_b = (
        (c[2] - c[0] + np.float32(offset)) * (c[3] - c[1] + np.float32(offset)) for c in (a, b)
    )
    union = area_a + area_b - width * height
    return width * height / union if union else np.float32('nan')


def greedy(boxes, scores, threshold, offset):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if not any(overlap(boxes[j], boxes[i], offset) > np.float32(threshold) for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('n', [0, 1, 2, 40])
def test_nms_keeps_what_a_loop_keeps(n, offset):
    rng = np.random.default_rng(n)
    for whole in (False, True):
        for threshold in (0.0, 0.3, 0.6, 1.0):
            boxes = cases.boxes(rng, n, whole=whole)
            scores = torch.from_numpy(rng.permutation(n) / 64).float()
            kept = extension.nms(boxes, scores, iou_threshold=threshold, offset=offset)
            assert kept.tolist() == greedy(boxes.numpy(), scores.numpy(), threshold, offset)
            assert kept.dtype == torch.long


def test_an_overlap_of_the_threshold_itself_is_kept():
    """0.6 is more as a float32, in which the overlap of 3 of 5 pixels is computed."""
    boxes = torch.tensor([[0.0, 0, 5, 1], [0, 0, 3, 1]])
    for offset, moved in ((0, 0.0), (1, 1.0)):
        moved = boxes - torch.tensor([0, 0, moved, moved])
        kept = extension.nms(moved, torch.tensor([0.9, 0.8]), iou_threshold=0.6, offset=offset)
        assert kept.tolist() == [0, 1]


def test_an_offset_across_blocks_of_candidates():
    """Many boxes of two places: one of each is kept, however far apart they are in the order."""
    boxes = torch.tensor([[0.0, 0, 9, 9], [50, 50, 59, 59]]).repeat(700, 1)
    kept = extension.nms(boxes, torch.linspace(1, 0, 1400), iou_threshold=0.5, offset=1)
    assert kept.tolist() == [0, 1]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('offset', [0, 1])
def test_nms_of_other_precisions(dtype, offset):
    """What the boxes are in half precision is what is compared."""
    rng = np.random.default_rng(0)
    boxes = cases.boxes(rng, 60).to(dtype)
    scores = torch.from_numpy(rng.permutation(60) / 64).to(dtype)
    kept = extension.nms(boxes, scores, iou_threshold=0.5, offset=offset)
    assert kept.tolist() == greedy(boxes.float().numpy(), scores.float().numpy(), 0.5, offset)


def soft(boxes, scores, threshold, sigma, least, method, offset):
    """Boxes left are looked at in the order of their index."""
    scores, left, taken = list(scores.astype(float)), list(range(len(boxes))), []
    while left:
        best = max(left, key=lambda i: scores[i])
        taken.append((best, scores[best]))
        left.remove(best)
        for i in list(left):
            iou = overlap(boxes[best], boxes[i], offset)
            if method == 2:
                scores[i] *= math.exp(-(iou**2) / sigma)
            elif iou >= np.float32(threshold):
                scores[i] *= 1 - iou if method == 1 else 0
            if scores[i] < least:
                left.remove(i)
    return taken


@pytest.mark.parametrize('method', [0, 1, 2], ids=['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('n', [0, 1, 30])
def test_softnms_lowers_scores_as_a_loop_does(n, offset, method):
    rng = np.random.default_rng(n)
    # Without boxes of no area, whose overlaps are no numbers.
    boxes, scores = cases.boxes(rng, n, side=40, flat=0), cases.scores(rng, n)
    settings = dict(iou_threshold=0.3, sigma=0.5, min_score=0.05, method=method, offset=offset)
    dets, kept = calls.softnms(extension, boxes, scores, **settings)
    expected = soft(boxes.numpy(), scores.numpy(), 0.3, 0.5, 0.05, method, offset)
    assert kept.tolist() == [i for i, _ in expected]
    assert torch.equal(dets[:, :4], boxes[kept])
    torch.testing.assert_close(dets[:, 4].double(), torch.tensor([s for _, s in expected]).double())
    if n == 30:
        assert 0 < len(kept) < n


@pytest.mark.parametrize('aligned', [False, True])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', [0, 1], ids=['iou', 'iof'])
def test_overlaps_by_counting_pixels(mode, offset, aligned):
    """Boxes on whole pixels hold as many pixels as their area."""
    rng = np.random.default_rng(0)
    first, second = (cases.boxes(rng, 50, side=20, whole=True, flat=0) for _ in range(2))
    first[:, 2:] += 1
    second[:, 2:] += 1
    masks = [np.zeros((50, 40, 40), dtype=bool) for _ in range(2)]
    for group, mask in zip((first, second), masks):
        for box, image in zip(group.int().tolist(), mask):
            image[box[1] : box[3] + offset, box[0] : box[2] + offset] = True
    inside = (masks[0][:, None] & masks[1][None]).sum((2, 3))
    union = (masks[0][:, None] | masks[1][None]).sum((2, 3))
    expected = inside / (union if mode == 0 else masks[0].sum((1, 2))[:, None])
    if aligned:
        expected = expected.diagonal()
    got = calls.bbox_overlaps(extension, first, second, mode, aligned, offset)
    assert got.max() > 0
    torch.testing.assert_close(got, torch.from_numpy(expected.copy()).float())


def test_overlaps_of_half_precision_are_those_of_the_rounded_boxes():
    rng = np.random.default_rng(0)
    first, second = (cases.boxes(rng, 9, flat=0).bfloat16() for _ in range(2))
    got = calls.bbox_overlaps(extension, first, second, 0, False, 0)
    assert got.dtype == torch.bfloat16
    expected = calls.bbox_overlaps(extension, first.float(), second.float(), 0, False, 0)
    assert torch.equal(got, expected.bfloat16())

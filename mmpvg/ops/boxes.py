"""Suppression of boxes, and their overlaps: ``nms``, ``softnms``, ``bbox_overlaps``.

Boxes are (x1, y1, x2, y2); with ``offset`` 1 the last pixel belongs to a box, so that its width is
x2 - x1 + 1, as in the first versions of MMDetection.
"""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from torch import Tensor

from .precision import lifted

# Candidates of nms with an offset whose overlaps are computed at a time.
_BLOCK = 256


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou_threshold: A box is dropped if its IoU with a kept one of higher score is above.
        offset: 0 or 1.

    Returns:
        (K,) indices of the kept boxes, by falling score.
    """
    if boxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    # Compiled mmcv's threshold is a float32, and its sort decides between equal scores.
    iou_threshold = float(np.float32(iou_threshold))
    order = scores.sort(0, descending=True)[1]
    (boxes,) = lifted(boxes, boxes[order])
    if offset:
        kept = _greedy(boxes, iou_threshold, offset)
    else:
        # Falling numbers keep the order, whatever the scores' precision.
        ranks = torch.arange(len(order), 0, -1, device=boxes.device).to(boxes.dtype)
        kept = torchvision.ops.nms(boxes, ranks, iou_threshold)
    return order[kept]


def _greedy(boxes: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """``nms`` of boxes by falling score: indices in rising order."""
    candidates = torch.arange(len(boxes), device=boxes.device)
    kept = []
    while len(candidates):
        block, rest = candidates[:_BLOCK], candidates[_BLOCK:]
        overlapping = (iou(boxes[block], boxes[block], offset) > iou_threshold).cpu().numpy()
        alive = np.ones(len(block), dtype=bool)
        for i, row in enumerate(overlapping):
            if alive[i]:
                alive[i + 1 :] &= ~row[i + 1 :]
        block = block[torch.from_numpy(alive).to(block.device)]
        kept.append(block)
        dropped = (iou(boxes[block], boxes[rest], offset) > iou_threshold).any(0)
        candidates = rest[~dropped]
    return torch.cat(kept)


def iou(boxes1: Tensor, boxes2: Tensor, offset: int = 0, mode: int = 0) -> Tensor:
    """Overlaps of each of ``boxes1`` (..., M, 4) with each of ``boxes2`` (N, 4): (M, N).

    Args:
        boxes1: Boxes.
        boxes2: Boxes.
        offset: 0 or 1.
        mode: 0 for intersection over union, 1 for intersection over the area of ``boxes1``.
    """
    return _overlaps(boxes1[:, None], boxes2[None], offset, mode)


def _overlaps(boxes1: Tensor, boxes2: Tensor, offset: int, mode: int) -> Tensor:
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    inside = (bottom_right - top_left + offset).clamp(min=0).prod(-1)
    area1, area2 = ((b[..., 2:] - b[..., :2] + offset).prod(-1) for b in (boxes1, boxes2))
    return inside / (area1 + area2 - inside if mode == 0 else area1)


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Write overlaps of boxes into ``ious``.

    Args:
        bboxes1: (M, 4).
        bboxes2: (N, 4); N = M if ``aligned``.
        ious: (M, N), or (M,) if ``aligned``: the output. Two boxes without area give NaN.
        mode: 0 for intersection over union, 1 for intersection over the area of ``bboxes1``.
        aligned: Whether only boxes of the same row are compared.
        offset: 0 or 1.
    """
    first, second = lifted(bboxes1, bboxes1, bboxes2)
    if aligned:
        ious.copy_(_overlaps(first, second, offset, mode))
    else:
        ious.copy_(iou(first, second, offset, mode))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017): lowers scores of overlapping boxes, step by step.

    Args:
        boxes: (N, 4), on the CPU.
        scores: (N,), on the CPU.
        dets: (N, 5): its first K rows are set to the kept boxes with their new scores.
        iou_threshold: From this IoU on, a box's score is lowered; not used by method 2.
        sigma: Of method 2.
        min_score: A box whose score falls below is dropped.
        method: What a score is multiplied by: 0 for 0, 1 for 1 - IoU, 2 for exp(-IoU^2 / sigma).
        offset: 0 or 1.

    Returns:
        (K,) indices of the kept boxes, in the order in which they were taken.
    """
    # Rows of x1, y1, x2, y2, score, area in compiled mmcv's precision. As it does, boxes change
    # places in one table, which decides between equal scores.
    table = np.empty((len(boxes), 6), dtype=np.float32)
    table[:, :4] = boxes.detach().float().numpy()
    table[:, 4] = scores.detach().float().numpy()
    table[:, 5] = (table[:, 2:4] - table[:, :2] + np.float32(offset)).prod(1)
    indices = np.arange(len(boxes), dtype=np.int64)
    threshold, width, least = (np.float32(n) for n in (iou_threshold, sigma, min_score))
    n, i = len(boxes), 0
    while i < n:
        _swap(table, indices, i, i + _first_largest(table[i:n, 4]))
        others = table[i + 1 : n]
        with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
            others[:, 4] *= _weights(table[i], others, threshold, width, method, offset)
        n = _drop_below(table, indices, i + 1, n, least)
        i += 1
    dets[:n] = torch.from_numpy(table[:n, :5]).to(dets)
    return torch.from_numpy(indices[:n])


def _first_largest(scores: np.ndarray) -> int:
    # NaN is larger than nothing, unless it comes first.
    if np.isnan(scores[0]):
        return 0
    return int(np.where(np.isnan(scores), -np.inf, scores).argmax())


def _swap(table: np.ndarray, indices: np.ndarray, i: int, j: int) -> None:
    table[[i, j]], indices[[i, j]] = table[[j, i]], indices[[j, i]]


def _weights(
    box: np.ndarray,
    others: np.ndarray,
    threshold: np.float32,
    sigma: np.float32,
    method: int,
    offset: int,
) -> np.ndarray:
    sides = np.minimum(box[2:4], others[:, 2:4]) - np.maximum(box[:2], others[:, :2])
    inside = np.maximum(sides + np.float32(offset), 0).prod(1)
    overlap = inside / (box[5] + others[:, 5] - inside)
    if method == 2:
        return np.exp(-(overlap * overlap) / sigma)
    lowered = 1 - overlap if method == 1 else np.zeros_like(overlap)
    return np.where(overlap >= threshold, lowered, np.float32(1))


def _drop_below(
    table: np.ndarray, indices: np.ndarray, start: int, n: int, min_score: np.float32
) -> int:
    """Put the last box in the place of each that is dropped; returns how many are left."""
    for place in np.flatnonzero(table[start:n, 4] < min_score) + start:
        # The last may have to go too.
        while n > place and table[place, 4] < min_score:
            n -= 1
            table[place], indices[place] = table[n], indices[n]
    return n

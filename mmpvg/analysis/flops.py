"""Multiply-adds of a model, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.layers import Attention

# Proposals of a detector's second stage, as in mmdet's own counting.
NUM_BOX_PROPOSALS, NUM_MASK_PROPOSALS = 1000, 100


@dataclass(frozen=True)
class PartCost:
    """Cost of a part of a model for one image.

    Attributes:
        name: The part.
        macs: Multiply-adds of its matrix products and convolutions, called FLOPs in papers.
        parameters: Its parameters.
    """

    name: str
    macs: int
    parameters: int


def count_macs(function: Callable[[], Any], *modules: nn.Module) -> tuple[int, Any]:
    """Count the multiply-adds of a call, and return them with its result.

    Our attention runs its explicit path in the call: whether a fused kernel is counted depends on
    torch's version, the device and the mask. The sampling of deformable attention, which no counter
    sees, is four multiply-adds a value for bilinear interpolation and one for its weight.

    Args:
        function: The call.
        *modules: Modules that may hold our attention.
    """
    with torch.no_grad(), _countable(*modules), _sampled(*modules) as sampled:
        counter = FlopCounterMode(display=False)
        with counter:
            result = function()
    # torch counts a multiply-add as two operations.
    return counter.get_total_flops() // 2 + sum(sampled), result


def part_costs(model: nn.Module, shape: tuple[int, int]) -> list[PartCost]:
    """Count a detector, segmenter, classifier or backbone on one image, part by part.

    A segmenter's auxiliary head is left out, as it is at inference; so are losses and
    post-processing. A two-stage detector's heads are given 1000 boxes and 100 masks.

    Args:
        model: The model; set to inference.
        shape: (H, W) of the image, in pixels.

    Returns:
        The parts in the order in which they run.

    Raises:
        ValueError: If the image is smaller than what the model takes.
    """
    model.eval()
    image = torch.zeros(1, 3, *shape, device=next(model.parameters()).device)
    costs: list[PartCost] = []

    def run(name: str, part: nn.Module, function: Callable[[], Any]) -> Any:
        macs, result = count_macs(function, part)
        costs.append(PartCost(name, macs, sum(p.numel() for p in part.parameters())))
        return result

    encoder = getattr(model, 'image_encoder', None)
    if encoder is not None:
        run('image_encoder', encoder, lambda: encoder(image))
        return costs
    backbone = getattr(model, 'backbone', None)
    if backbone is None:
        run(type(model).__name__, model, lambda: model(image))
        return costs
    features = run('backbone', backbone, lambda: backbone(image))
    if getattr(model, 'neck', None) is not None:
        features = run('neck', model.neck, lambda: model.neck(features))
    for name in ('rpn_head', 'bbox_head', 'decode_head', 'head'):
        head = getattr(model, name, None)
        if isinstance(head, nn.Module):
            run(name, head, lambda head=head: head(features))
    if getattr(model, 'roi_head', None) is not None:
        for name, part, function in _roi_parts(model.roi_head, features, shape):
            run(name, part, function)
    return costs


def _roi_parts(
    roi_head: nn.Module, features: tuple[Tensor, ...], shape: tuple[int, int]
) -> Iterator[tuple[str, nn.Module, Callable[[], Any]]]:
    """Yield the box and mask branches on boxes of the size of the image, and every stage."""
    height, width = shape
    box = features[0].new_tensor([[0, 0, 0, width, height]], dtype=torch.float32)
    boxes = box.repeat(NUM_BOX_PROPOSALS, 1)
    branches = [('bbox', boxes)]
    if getattr(roi_head, 'mask_head', None) is not None:
        branches.append(('mask', boxes[:NUM_MASK_PROPOSALS]))
    for branch, given in branches:
        head, forward = getattr(roi_head, f'{branch}_head'), getattr(roi_head, f'_{branch}_forward')
        if not isinstance(head, nn.ModuleList):
            yield f'roi_head.{branch}', head, partial(forward, features, given)
            continue
        for stage, part in enumerate(head):
            name = f'roi_head.{branch}.{stage}'
            yield name, part, partial(forward, stage, features, given)


@contextmanager
def _sampled(*modules: nn.Module) -> Iterator[list[int]]:
    """Collect the cost of the sampling of every call of mmcv's deformable attention."""
    costs: list[int] = []

    def count(attention: nn.Module, args: tuple, output: Tensor) -> None:
        queries = output.numel() // output.shape[-1]
        values = attention.num_levels * attention.num_points * attention.value_proj.out_features
        costs.append(queries * values * (4 + 1))

    handles = [
        module.register_forward_hook(count)
        for part in modules
        for module in part.modules()
        if type(module).__name__ == 'MultiScaleDeformableAttention'
    ]
    try:
        yield costs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _countable(*modules: nn.Module) -> Iterator[None]:
    found = [m for module in modules for m in module.modules() if isinstance(m, Attention)]
    fused = [attention.fused for attention in found]
    # torch's counter fails at a parameter that a module returns as it is.
    trained = [p for module in modules for p in module.parameters() if p.requires_grad]
    for attention in found:
        attention.fused = False
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for attention, before in zip(found, fused):
            attention.fused = before

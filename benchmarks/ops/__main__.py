r"""Time of the compiler-free operators over that of compiled mmcv's, side by side in one process.

    python -m benchmarks.ops
    python -m benchmarks.ops --device cuda --rounds 30

Needs a compiled mmcv, in the environment or as a ready wheel in a folder that PIP_FIND_LINKS names.
Prints a Markdown table of medians over the rounds. On the CPU compiled mmcv has no deformable
attention; mmcv's own Python stands in its place there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.timing import time_alternately
from mmpvg.ops import extension

from .compiled import load_compiled
from .swap import operators

Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument(
        '--detector',
        default='configs/sample/mask_rcnn_vit_mpvg_sample.py',
        help='config of a detector, whose training step and inference are timed too',
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compiled, where = load_compiled(Path(folder))
        if compiled is None:
            sys.exit(where)
        cases = make_cases(args.device) | detector_cases(args.detector, args.device)
        for line in table(cases, compiled, args.rounds):
            print(line, flush=True)


def table(cases: dict[str, Callable[[Any], object]], compiled: Any, rounds: int) -> Iterator[str]:
    """Lines of the table, each when its case is timed."""
    yield '| Case | Compiled, ms | Compiler-free, ms | Ratio |'
    yield '|---|---|---|---|'
    for name, call in cases.items():
        calls = {'free': run(extension, call), 'compiled': run(compiled, call)}
        times = time_alternately(calls, rounds)
        free, own = times['free'], times['compiled']
        row = f'{own.median * 1e3:.2f} | {free.median * 1e3:.2f} | {free.ratio(own):.2f}'
        yield f'| {name} | {row} |'


def run(ext: Any, call: Callable[[Any], object]) -> Call:
    def timed() -> None:
        with operators(ext):
            call(ext)

    return timed


def make_cases(device: str) -> dict[str, Callable[[Any], object]]:
    """What is timed: name -> a call that is given the operators, which mmcv uses meanwhile."""
    from mmcv.ops import batched_nms, nms, roi_align, soft_nms

    cases = {}
    for n in (1000, 10000):
        boxes, scores, classes = make_boxes(n, device)
        cases[f'nms, {n} boxes'] = lambda _, b=boxes, s=scores: nms(b, s, 0.7)
        cfg = dict(type='nms', iou_threshold=0.5, split_thr=2 * n)
        cases[f'batched_nms, {n} boxes of 80 classes'] = (
            lambda _, b=boxes, s=scores, c=classes, cfg=cfg: batched_nms(b, s, c, dict(cfg))
        )
    boxes, scores, _ = make_boxes(1000, device)
    cases['nms with offset 1, 1000 boxes'] = lambda _: nms(boxes, scores, 0.7, offset=1)
    cases['soft_nms, 1000 boxes'] = lambda _: soft_nms(boxes, scores)

    maps = torch.randn(2, 256, 100, 152, device=device, requires_grad=True)
    rois = torch.cat([torch.arange(512, device=device)[:, None] % 2, make_boxes(512, device)[0]], 1)

    def pool(_: Any) -> None:
        maps.grad = None
        roi_align(maps, rois, (7, 7), 0.125, 0, 'avg', True).sum().backward()

    cases['RoIAlign forward and backward, 512 RoIs, 256 channels'] = pool
    cases['deformable attention forward and backward, 5 levels'] = attention_case(device)
    cases['deformable convolution v2 forward and backward'] = convolution_case(device)
    return cases


def make_boxes(n: int, device: str) -> tuple[torch.Tensor, ...]:
    """Boxes, scores and classes as of a dense detector in an image of 1216 x 800."""
    rng = np.random.default_rng(n)
    corners = rng.uniform(0, (1100, 700), (n, 2))
    sides = rng.lognormal(4, 0.8, (n, 2)).clip(4, 500)
    boxes = np.concatenate([corners, (corners + sides).clip(max=(1216, 800))], 1)
    values = boxes.astype('f4'), rng.random(n).astype('f4'), rng.integers(0, 80, n)
    return tuple(torch.from_numpy(value).to(device) for value in values)


def attention_case(device: str) -> Callable[[Any], None]:
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    shapes = torch.tensor([[64, 96], [32, 48], [16, 24], [8, 12], [4, 6]], device=device)
    pixels = shapes.prod(1)
    starts = torch.cat([pixels.new_zeros(1), pixels.cumsum(0)[:-1]])
    value = torch.randn(1, int(pixels.sum()), 8, 32, device=device, requires_grad=True)
    locations = torch.rand(1, 900, 8, 5, 4, 2, device=device, requires_grad=True)
    weights = torch.rand(1, 900, 8, 5, 4, device=device, requires_grad=True)

    def attend(ext: Any) -> None:
        if device == 'cpu' and ext is not extension:
            output = multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)
        else:
            output = MultiScaleDeformableAttnFunction.apply(
                value, shapes, starts, locations, weights, 64
            )
        output.sum().backward()

    return attend


def convolution_case(device: str) -> Callable[[Any], None]:
    from mmcv.ops import ModulatedDeformConv2dPack

    layer = ModulatedDeformConv2dPack(64, 64, 3, padding=1).to(device)
    x = torch.randn(1, 64, 50, 76, device=device, requires_grad=True)
    return lambda _: layer(x).sum().backward()


def detector_cases(path: str, device: str) -> dict[str, Callable[[Any], object]]:
    """A training step and an inference of a detector on two images each."""
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DATASETS, MODELS, init_default_scope

    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).to(device)
    train, test = (
        pseudo_collate([DATASETS.build(loader.dataset)[i] for i in (0, 1)])
        for loader in (cfg.train_dataloader, cfg.test_dataloader)
    )

    def step(_: Any) -> None:
        model.train().zero_grad()
        # Which RoIs are sampled must not differ.
        torch.manual_seed(0)
        np.random.seed(0)
        batch = model.data_preprocessor(train, training=True)
        model.parse_losses(model(**batch, mode='loss'))[0].backward()

    def infer(_: Any) -> None:
        with torch.no_grad():
            model.eval().test_step(test)

    return {'sample Mask R-CNN, training step': step, 'sample Mask R-CNN, inference': infer}


if __name__ == '__main__':
    main()

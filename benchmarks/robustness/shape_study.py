"""Images of every shape through whole models, in training and in prediction."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

#: Height and width at most, and what is certainly among the shapes.
LARGEST = (2000, 40)
EXTREMES = ((1, 1), (1, 40), (2000, 1), (2000, 40))


@dataclass(frozen=True)
class ShapeResult:
    """What a model did with two images of a shape.

    Attributes:
        shape: Height and width in pixels.
        error: Of the exception; None if there was none.
        not_finite: Names of losses and predictions with values that are not finite.
    """

    shape: tuple[int, int]
    error: str | None
    not_finite: tuple[str, ...]


def random_shapes(number: int, seed: int = 0) -> list[tuple[int, int]]:
    """The extremes, and shapes between 1x1 and 2000x40, either way round, small ones as often.

    Args:
        number: At least 4.
        seed: Of the others.

    Raises:
        ValueError: If there are less than four.
    """
    if number < len(EXTREMES):
        raise ValueError(f'number must be {len(EXTREMES)} or more shapes, got {number}')
    chance = random.Random(seed)

    def side(most: int) -> int:
        return round(most ** chance.random())

    shapes = list(EXTREMES)
    while len(shapes) < number:
        shape = side(LARGEST[0]), side(LARGEST[1])
        shapes.append(shape if chance.random() < 0.5 else shape[::-1])
    return shapes


def run_shape_study(
    config: str | Path, shapes: Sequence[tuple[int, int]], seed: int = 0
) -> Iterator[ShapeResult]:
    """Compute losses and predictions of the untrained model of a config.

    Args:
        config: Of a detector or segmenter.
        shapes: (height, width) of the images, in pixels.
        seed: Of weights, pixels and labels.
    """
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(seed)
    model = MODELS.build(cfg.model)
    # Wholly random: at their start, some parts add nothing.
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    for shape in shapes:
        images = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for _ in range(2)]
        samples = [_sample(cfg.default_scope, shape) for _ in range(2)]
        try:
            values = dict(_values(model, images, samples))
        except Exception as error:  # whatever a model makes of a shape
            yield ShapeResult(shape, f'{type(error).__name__}: {error}', ())
            continue
        wrong = tuple(name for name, value in values.items() if not value.isfinite().all())
        yield ShapeResult(shape, None, wrong)


def _values(
    model: nn.Module, images: list[Tensor], samples: list[BaseDataElement]
) -> Iterator[tuple[str, Tensor]]:
    model.train()
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    for name, loss in model(**data, mode='loss').items():
        for value in loss if isinstance(loss, (list, tuple)) else [loss]:
            yield name, value
    model.eval()
    with torch.no_grad():
        for result in model.test_step(dict(inputs=images, data_samples=samples)):
            if 'seg_logits' in result:
                yield 'seg_logits', result.seg_logits.data
            else:
                yield 'scores', result.pred_instances.scores
                yield 'boxes', result.pred_instances.bboxes


def _sample(scope: str, shape: tuple[int, int]) -> BaseDataElement:
    """Ground truth of an image: random labels, or its left upper quarter as an object."""
    meta = dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample

        sample = SegDataSample(metainfo=meta)
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, *shape)))
        return sample
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks

    height, width = shape
    sample = DetDataSample(metainfo=meta)
    corner = [max(1.0, width / 2), max(1.0, height / 2)]
    mask = np.zeros((1, height, width), np.uint8)
    mask[0, : int(corner[1]), : int(corner[0])] = 1
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor([[0.0, 0.0, *corner]])),
        labels=torch.zeros(1, dtype=torch.long),
        masks=BitmapMasks(mask, height, width),
    )
    sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)))
    return sample

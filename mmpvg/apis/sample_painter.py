"""Draws the ground truth and the prediction of an image with upstream's visualizers."""

from __future__ import annotations

import warnings
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate

from mmpvg.apis.inference.inferencers import visualizer_type
from mmpvg.apis.inference.predictor import fixed_numpy_seed
from mmpvg.apis.inference.reading import ImageReader, as_rgb, reader_of
from mmpvg.utils.figure import COLORS

if TYPE_CHECKING:
    from torch.utils.data import Dataset

# mmengine returns an old visualizer of the same name.
_NUMBERS = count()


def predict(model: nn.Module, dataset: Dataset, index: int) -> BaseDataElement:
    """Predict on one item of a test set; the sample holds the ground truth too."""
    with torch.no_grad():
        (sample,) = model.test_step(pseudo_collate([dataset[index]]))
    return sample.cpu()


class SamplePainter:
    """Draws samples of a data set.

    Args:
        cfg: Config of a detector or a segmenter.
        metainfo: That of its data set.
        score_thr: Detections that do not score more are left out.

    Attributes:
        class_colors: Class -> (red, green, blue).
    """

    def __init__(self, cfg: Config, metainfo: dict, score_thr: float = 0.5) -> None:
        classes = metainfo['classes']
        palette = metainfo.get('palette')
        if not palette or isinstance(palette, str) or len(palette) != len(classes):
            palette = [_rgb(index) for index in range(len(classes))]
        self.class_colors = dict(zip(classes, map(tuple, palette)))
        self._visualizer = VISUALIZERS.build(
            dict(type=visualizer_type(cfg), name=f'painter {next(_NUMBERS)}', alpha=0.6)
        )
        self._visualizer.dataset_meta = {**metainfo, 'palette': palette}
        detects = cfg.default_scope == 'mmdet'
        self._read = reader_of(cfg) or ImageReader()
        self._options = dict(pred_score_thr=score_thr) if detects else dict(with_labels=False)

    def image(self, sample: BaseDataElement, scale: int = 1) -> Image.Image:
        """The image alone, as the model reads it, enlarged."""
        path = Path(sample.img_path)
        image = Image.fromarray(as_rgb(self._read(path)))
        for doubt in self._read.doubts(path):
            warnings.warn(doubt, stacklevel=2)
        return image.resize((image.width * scale, image.height * scale), Image.BICUBIC)

    def ground_truth(self, sample: BaseDataElement, scale: int = 1) -> Image.Image:
        """The ground truth over the image, which is enlarged first."""
        return self._draw(sample, scale, draw_pred=False)

    def prediction(self, sample: BaseDataElement, scale: int = 1) -> Image.Image:
        """The prediction over the image, which is enlarged first."""
        return self._draw(sample, scale, draw_gt=False)

    def _draw(self, sample: BaseDataElement, scale: int, **parts: bool) -> Image.Image:
        image = np.asarray(self.image(sample, scale))
        with fixed_numpy_seed():
            self._visualizer.add_datasample(
                'sample', image, _enlarge(sample, scale), **parts, **self._options
            )
        return Image.fromarray(self._visualizer.get_image())


def _rgb(index: int) -> tuple[int, ...]:
    return tuple(bytes.fromhex(COLORS[index % len(COLORS)][1:]))


def _enlarge(sample: BaseDataElement, scale: int) -> BaseDataElement:
    """The sample for an image ``scale`` times as large."""
    sample = sample.clone()
    for name in ('gt_sem_seg', 'pred_sem_seg'):
        if name in sample:
            label_map = getattr(sample, name).data[None].float()
            enlarged = interpolate(label_map, scale_factor=scale, mode='nearest')[0].long()
            setattr(sample, name, PixelData(data=enlarged))
    for name in ('gt_instances', 'pred_instances'):
        if name not in sample:
            continue
        # A sample's clone has the same instances.
        instances = getattr(sample, name).clone()
        setattr(sample, name, instances)
        boxes = instances.bboxes
        instances.bboxes = (boxes.tensor if hasattr(boxes, 'tensor') else boxes) * scale
        if 'masks' not in instances:
            continue
        masks = instances.masks
        masks = masks.to_tensor(torch.uint8, 'cpu') if hasattr(masks, 'to_tensor') else masks
        instances.masks = (
            masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2).bool().numpy()
        )
    return sample

"""Predicts on arrays, and draws predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmpvg.utils.errors import UserError

from .inferencers import build_inferencer
from .reading import as_rgb


class Predictor:
    """A detector or a segmenter that predicts on arrays.

    Args:
        config: Of the model.
        checkpoint: File or URL of the weights; None for an untrained model.
        device: As ``build_inferencer`` takes it.

    Attributes:
        detects: Whether it is a detector.
        classes: Names of the classes.
        palette: Their colors, RGB from 0 to 255.
        device: Where the weights are.

    Raises:
        UserError: See ``build_inferencer``.
    """

    def __init__(self, config: Config, checkpoint: str | None, device: str | None = None) -> None:
        self.inferencer = build_inferencer(config, checkpoint, device)
        self.detects = config.default_scope == 'mmdet'
        meta = self.inferencer.model.dataset_meta
        self.classes: tuple[str, ...] = tuple(meta['classes'])
        self.palette: list[tuple[int, int, int]] = meta['palette']
        self.device = str(next(self.inferencer.model.parameters()).device)

    def __call__(self, images: Sequence[np.ndarray]) -> list[BaseDataElement | Exception]:
        """Predict on a batch. If that fails, its images are tried one by one.

        Args:
            images: BGR, of one size.

        Returns:
            For each image the sample with the prediction, on the CPU, or the exception.
        """
        try:
            return self._predict(images)
        except Exception as error:  # whatever a model makes of an image
            failure = error
        if len(images) == 1:
            return [failure]
        return [result for image in images for result in self([image])]

    def draw(
        self, image: np.ndarray, sample: BaseDataElement, score_thr: float = 0.3
    ) -> np.ndarray:
        """Draw a prediction with upstream's visualizer.

        Args:
            image: The image, BGR.
            sample: Its prediction.
            score_thr: Detections below it are left out.

        Returns:
            A picture of the size of the image, RGB, uint8.
        """
        options = dict(pred_score_thr=score_thr) if self.detects else dict(opacity=0.5)
        with warnings.catch_warnings(), fixed_numpy_seed():
            # Of boxes that reach the edge, one for each picture.
            warnings.filterwarnings('ignore', message='.* is out of bounds')
            (picture,) = self.inferencer.visualize(
                [as_rgb(image)], [sample], return_vis=True, **options
            )
        return picture

    def detections(self, sample: BaseDataElement) -> dict[str, Any]:
        """Return detections as mmdet's inferencer gives them.

        Returns:
            ``labels``, ``scores``, ``bboxes`` (left, top, right, bottom) and, if the model has
            them, ``masks`` as RLE.

        Raises:
            UserError: If the model predicts something else.
        """
        found = self.inferencer.pred2dict(sample)
        if 'bboxes' not in found:
            raise UserError('the model predicts no boxes')
        return found

    def label_map(self, sample: BaseDataElement) -> np.ndarray:
        """Return the class index of each pixel, shape (height, width).

        Raises:
            UserError: If the model predicts something else.
        """
        if 'pred_sem_seg' not in sample:
            raise UserError('the model predicts no classes of pixels')
        return sample.pred_sem_seg.data[0].numpy()

    def _predict(self, images: Sequence[np.ndarray]) -> list[BaseDataElement]:
        found = self.inferencer(list(images), batch_size=len(images), return_datasamples=True)
        samples = found['predictions'] if self.detects else found
        samples = samples if isinstance(samples, list) else [samples]
        for sample in samples:
            # One map for each class, of which only the highest is asked for.
            for name in ('seg_logits', 'i_seg_logits'):
                if name in sample:
                    delattr(sample, name)
        return [sample.cpu() for sample in samples]


@contextmanager
def fixed_numpy_seed(seed: int = 0) -> Iterator[None]:
    """Seed NumPy's draws for a while: mmdet varies the colors of masks at random."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)

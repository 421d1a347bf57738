"""Writes the result of each image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mmengine.structures import BaseDataElement

from .files import DetectionFiles, MaskFiles, PictureFiles
from .inputs import Item
from .predictor import Predictor
from .reading import as_rgb
from .report import PredictionReport
from .video import VideoFile


class Results:
    """Writes predictions and pictures, and notes failures in the report.

    Args:
        predictor: What predicts.
        report: The report.
        files: Files of the predictions.
        drawn: Files of the pictures; None for none.
        score_thr: Detections below it are not drawn.
    """

    def __init__(
        self,
        predictor: Predictor,
        report: PredictionReport,
        files: DetectionFiles | MaskFiles,
        drawn: PictureFiles | VideoFile | None,
        score_thr: float,
    ) -> None:
        self.predictor, self.report, self.files = predictor, report, files
        self.drawn, self.score_thr = drawn, score_thr

    def add(self, item: Item, image: np.ndarray, result: BaseDataElement | Exception) -> None:
        """Write the result of an image, its prediction or an exception.

        Raises:
            OSError: If a file cannot be written.
        """
        picture = None
        if isinstance(result, Exception):
            self.report.fail(item.file_name, result)
        else:
            with self._noted(item):
                self._write(item, image, result)
                self.report.predicted += 1
                picture = self._draw(item, image, result)
        if picture is None and isinstance(self.drawn, VideoFile):
            # So that the video keeps its time.
            picture = as_rgb(image)
        if picture is not None:
            self.drawn.add(item, picture)

    def close(self) -> None:
        """Complete the files, and write the report."""
        try:
            if self.drawn is not None:
                self.drawn.close()
            self.files.close()
        finally:
            self.report.write(self.files.folder / 'report.json')

    def _write(self, item: Item, image: np.ndarray, sample: BaseDataElement) -> None:
        if isinstance(self.files, MaskFiles):
            self.files.add(item, image, self.predictor.label_map(sample))
        else:
            self.files.add(item, image, self.predictor.detections(sample))
            self.report.detections = self.files.count

    def _draw(self, item: Item, image: np.ndarray, sample: BaseDataElement) -> np.ndarray | None:
        if self.drawn is not None:
            with self._noted(item, 'predicted, but not drawn: '):
                return self.predictor.draw(image, sample, self.score_thr)
        return None

    @contextmanager
    def _noted(self, item: Item, what: str = '') -> Iterator[None]:
        try:
            yield
        except OSError:
            # Such as a full disk, which the next image would meet too.
            raise
        except Exception as error:  # whatever a model or a visualizer makes of an image
            self.report.fail(item.file_name, error, what)

"""A contact sheet of a model's predictions beside the ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mmpvg.checkpoints.strict import load_weights
from mmpvg.engine.config.config_model import read_config
from mmpvg.engine.config.preflight import check_data_files
from mmpvg.utils.sheet import draw_sheet

from .sample_painter import SamplePainter, predict


def draw_prediction_sheet(
    config: str | Path | Config,
    checkpoint: str | Path,
    out: str | Path,
    num_images: int = 8,
    columns: int = 2,
    score_thr: float = 0.5,
    scale: int = 3,
) -> Path:
    """Draw image, ground truth and prediction of images spread evenly over a test set.

    Args:
        config: Config of a detector or segmenter.
        checkpoint: Its weights.
        out: PNG to write; its path is returned.
        num_images: Number of images.
        columns: Cells in a row.
        score_thr: Detections below it are left out.
        scale: How much images are enlarged, for sharp labels on small ones.
    """
    cfg = config if isinstance(config, Config) else read_config(config)
    check_data_files(cfg, 'test')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    load_weights(model, checkpoint)
    model.eval()
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).astype(int)
    painter = SamplePainter(cfg, dataset.metainfo, score_thr)
    cells = []
    for index in chosen:
        sample = predict(model, dataset, int(index))
        draws = painter.image, painter.ground_truth, painter.prediction
        cells.append(
            Image.fromarray(np.hstack([np.asarray(draw(sample, scale)) for draw in draws]))
        )
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    headings = ['image, ground truth, prediction'] * len(rows[0])
    return draw_sheet(rows, headings, painter.class_colors, out)

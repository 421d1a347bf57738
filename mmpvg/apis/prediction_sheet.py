"""A contact sheet of a model's predictions beside the ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import BaseDataElement
from PIL import Image, ImageDraw

from mmpvg.checkpoints.strict import load_weights
from mmpvg.engine.config.config_model import read_config
from mmpvg.engine.config.preflight import check_data_files

from .sample_painter import SamplePainter, predict

_GAP, _LINE = 8, 28
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


def draw_prediction_sheet(
    config: str | Path | Config,
    checkpoint: str | Path,
    out: str | Path,
    num_images: int = 8,
    columns: int = 2,
    score_thr: float = 0.5,
    scale: int = 3,
) -> Path:
    """Draw what a detector or segmenter predicts on images of its test set.

    Every cell holds the image, the ground truth and the prediction side by side. The images are
    spread evenly over the data set.

    Args:
        config: Config of the model.
        checkpoint: Its weights.
        out: PNG to write.
        num_images: Number of images.
        columns: Cells in a row.
        score_thr: Detections below it are left out.
        scale: How much images are enlarged, for sharp labels on small ones.

    Returns:
        ``out``.
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
    cells = [_cell(painter, predict(model, dataset, int(index)), scale) for index in chosen]
    sheet = _arrange(cells, columns, painter.class_colours)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return Path(out)


def _cell(painter: SamplePainter, sample: BaseDataElement, scale: int) -> Image.Image:
    """Image, ground truth and prediction of one sample."""
    panels = [
        draw(sample, scale) for draw in (painter.image, painter.ground_truth, painter.prediction)
    ]
    cell = Image.new('RGB', (sum(panel.width for panel in panels), panels[0].height))
    left = 0
    for panel in panels:
        cell.paste(panel, (left, 0))
        left += panel.width
    return cell


def _arrange(
    cells: list[Image.Image], columns: int, class_colours: dict[str, tuple]
) -> Image.Image:
    """Cells in rows, headings above, a legend of the classes below."""
    width = max(cell.width for cell in cells)
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) + _GAP for row in rows]
    size = (columns * (width + _GAP) + _GAP, sum(heights) + 2 * _LINE + _GAP)
    sheet = Image.new('RGB', size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column in range(min(columns, len(cells))):
        text = 'image, ground truth, prediction'
        draw.text((_GAP + column * (width + _GAP), 6), text, fill=_INK, font_size=16)
    for row, cells_of_row in enumerate(rows):
        top = _LINE + _GAP + sum(heights[:row])
        for column, cell in enumerate(cells_of_row):
            sheet.paste(cell, (_GAP + column * (width + _GAP), top))
    left = _GAP
    for name, colour in class_colours.items():
        top = size[1] - _LINE + 4
        draw.rectangle((left, top, left + 18, top + 18), fill=colour)
        draw.text((left + 24, top), name, fill=_INK, font_size=16)
        left += 40 + int(draw.textlength(name, font_size=16))
    return sheet

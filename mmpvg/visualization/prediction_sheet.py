"""A contact sheet of a model's predictions beside the ground truth."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, VISUALIZERS, init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image, ImageDraw
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from torch.utils.data import Dataset

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
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    model.eval()
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    chosen = np.linspace(0, len(dataset) - 1, min(num_images, len(dataset))).astype(int)
    cells = [_cell(cfg, model, dataset, int(index), score_thr, scale) for index in chosen]
    sheet = _arrange(cells, columns, dataset.metainfo)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return Path(out)


def _cell(cfg, model, dataset: Dataset, index: int, score_thr: float, scale: int) -> Image.Image:
    """Image, ground truth and prediction of one item."""
    with torch.no_grad():
        (result,) = model.test_step(pseudo_collate([dataset[index]]))
    with Image.open(result.img_path) as file:
        image = file.convert('RGB')
    large = image.resize((image.width * scale, image.height * scale), Image.BICUBIC)
    visualizer = VISUALIZERS.build(
        dict(type=cfg.visualizer.type, name=f'sheet {id(model)} {index}', alpha=0.6)
    )
    visualizer.dataset_meta = dataset.metainfo
    options = dict(with_labels=False)
    if cfg.default_scope == 'mmdet':
        options = dict(pred_score_thr=score_thr)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'drawn.png')
        visualizer.add_datasample(
            'sheet', np.asarray(large), _enlarge(result.cpu(), scale), out_file=path, **options
        )
        with Image.open(path) as file:
            drawn = file.convert('RGB')
    cell = Image.new('RGB', (large.width + drawn.width, large.height))
    cell.paste(large, (0, 0))
    cell.paste(drawn, (large.width, 0))
    return cell


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
        instances = getattr(sample, name)
        boxes = instances.bboxes
        instances.bboxes = (boxes.tensor if hasattr(boxes, 'tensor') else boxes) * scale
        masks = instances.masks
        masks = masks.to_tensor(torch.uint8, 'cpu') if hasattr(masks, 'to_tensor') else masks
        instances.masks = (
            masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2).bool().numpy()
        )
    return sample


def _arrange(cells: list[Image.Image], columns: int, metainfo: dict) -> Image.Image:
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
    for name, colour in zip(metainfo['classes'], metainfo['palette']):
        top = size[1] - _LINE + 4
        draw.rectangle((left, top, left + 18, top + 18), fill=tuple(colour))
        draw.text((left + 24, top), name, fill=_INK, font_size=16)
        left += 40 + int(draw.textlength(name, font_size=16))
    return sheet

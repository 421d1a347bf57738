"""Prediction from the input to the files."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.utils import ProgressBar

from mmpvg.datasets.checked_loading import BrokenSampleError
from mmpvg.datasets.unwrap import innermost_config
from mmpvg.utils.command_line import make_folder
from mmpvg.utils.errors import UserError

from .coco_ids import AnnotatedIds, CocoIds
from .files import DetectionFiles, MaskFiles, PictureFiles
from .inputs import Item, check_source, find_images, is_video
from .predictor import Predictor
from .reading import ImageFiles, ImageReader
from .report import PredictionReport
from .results import Results
from .video import VideoFile, VideoFrames

# Batches whose images may wait for others of their size.
_WAITING = 4


def predict_to_folder(
    source: str | Path,
    config: Config,
    checkpoint: str | None,
    out: str | Path,
    batch_size: int = 1,
    device: str | None = None,
    score_thr: float = 0.3,
    json_score_thr: float = 0.0,
    ann_file: str | Path | None = None,
    pictures: bool = True,
    every: int = 1,
) -> PredictionReport:
    """Predict on an image, a folder or a video, and write predictions, pictures and a report.

    An image that cannot be read or predicted on is noted in the report, and the others go on. After
    Ctrl-C what there is gets written.

    Args:
        source: The image, folder or video.
        config: Of a detector or segmenter.
        checkpoint: File or URL of its weights; None for an untrained model.
        out: Folder to write to.
        batch_size: Largest number of images in a batch; only images of one size are put together.
        device: Such as ``cuda:1``; None for the accelerator, if there is one.
        score_thr: Detections below it are not drawn.
        json_score_thr: Detections below it are not written.
        ann_file: COCO annotations whose ids the predictions get.
        pictures: Whether to draw.
        every: Step between the frames taken of a video.

    Raises:
        OSError: If something cannot be written; what was predicted before is there.
        UserError: If input, config, checkpoint or annotations are missing or do not fit one
            another, or results would replace the input.
    """
    path, out = check_source(source), Path(out)
    _check_options(path, out, config, ann_file, every)
    video = VideoFrames(path, every) if is_video(path) else None
    found = find_images(path, out) if video is None else None
    predictor = Predictor(config, checkpoint, device)
    make_folder(out)
    ids = AnnotatedIds(predictor.classes, ann_file) if ann_file else CocoIds(predictor.classes)
    report = PredictionReport(
        str(source), str(config.filename), str(checkpoint), predictor.device, batch_size
    )
    if video is None:
        reader = ImageReader(innermost_config(config.test_dataloader).pipeline)
        images = ImageFiles(ids.select(found.items), reader)
        drawn = PictureFiles(out / 'pictures')
        report.other_files, report.without_file = found.other_files, ids.without_file
        report.not_annotated = len(found.items) - len(images)
        # Filled while images are read.
        report.notes = images.doubts
    else:
        images = video
        drawn = VideoFile(out / 'pictures' / f'{path.stem}.mp4', video.fps)
        if pictures and abs(drawn.fps - video.fps) > 0.001:
            report.notes.append(
                f'{drawn.path} has {drawn.fps:g} frames a second instead of {video.fps:g}, which '
                'MPEG-4 cannot hold'
            )
    report.images = len(images)
    if predictor.detects:
        files = DetectionFiles(out, ids, json_score_thr)
    else:
        files = MaskFiles(out, predictor.classes, predictor.palette)
    results = Results(predictor, report, files, drawn if pictures else None, score_thr)
    _predict(images, predictor, results, report)
    return report


def _check_options(
    path: Path, out: Path, config: Config, ann_file: str | Path | None, every: int
) -> None:
    if every != 1 and not is_video(path):
        raise UserError(f'each {every}-th frame can be taken of a video, but {path} is none')
    if path.resolve() == out.resolve():
        raise UserError(f'{out} is the input itself; write to another folder')
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    for written in (out.resolve() / 'pictures', out.resolve() / 'masks'):
        if written in (folder, *folder.parents):
            raise UserError(
                f'{path} lies in {written}, where results go and would replace it; write to '
                'another folder'
            )
    if ann_file is not None and config.get('default_scope') == 'mmseg':
        raise UserError(f'the ids of {ann_file} are for a detector, but the model is a segmenter')
    if ann_file is not None and is_video(path):
        raise UserError(f'the ids of {ann_file} are for images, but {path} is a video')


def _predict(
    images: ImageFiles | VideoFrames,
    predictor: Predictor,
    results: Results,
    report: PredictionReport,
) -> None:
    bar = ProgressBar(len(images), file=sys.stderr)
    report.start()
    try:
        readable = _readable(images, report, bar)
        for batch in batches_of_one_size(readable, report.batch_size):
            for (item, image), result in zip(batch, predictor([image for _, image in batch])):
                results.add(item, image, result)
            bar.update(len(batch))
    except KeyboardInterrupt:
        report.interrupted = True
    finally:
        print(file=sys.stderr)
        results.close()


def _readable(
    images: Iterable[tuple[Item, np.ndarray | BrokenSampleError]],
    report: PredictionReport,
    bar: ProgressBar,
) -> Iterator[tuple[Item, np.ndarray]]:
    """Yield the images; those that are broken are noted."""
    for item, image in images:
        if isinstance(image, BrokenSampleError):
            report.fail(item.file_name, image)
            bar.update()
        else:
            yield item, image


def batches_of_one_size(
    images: Iterable[tuple[Item, np.ndarray]], batch_size: int
) -> Iterator[list[tuple[Item, np.ndarray]]]:
    """Group images of one size, so that none is padded and predictions do not depend on the batch.

    Images wait for others of their size. When four batches of them wait, the largest group is given
    as it is. Images of one size stay in order.

    Args:
        images: In any order.
        batch_size: Largest number of images in a batch.
    """
    waiting = defaultdict(list)
    for item, image in images:
        group = waiting[image.shape]
        group.append((item, image))
        if len(group) == batch_size:
            yield waiting.pop(image.shape)
        elif sum(map(len, waiting.values())) >= _WAITING * batch_size:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()

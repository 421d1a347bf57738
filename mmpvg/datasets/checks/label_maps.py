"""Checks of semantic label maps: what training would make of the pixels of each file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from PIL import Image
from torch.utils.data import Dataset

from ..broken_samples import labels_outside
from .finding import Finding, join_common
from .image_files import check_image_header
from .workers import map_in_processes

_IGNORED = 255
# Shares of the maps that hold 0, and of the pixels that are 0, above which 0 seems to be a class.
_MAPS_WITH_0, _SHARE_OF_0 = 0.5, 0.2


def check_label_maps(
    dataset: Dataset,
    num_classes_of_head: int,
    sample: int | None = None,
    training: bool = True,
    jobs: int = 1,
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> tuple[list[Finding], dict[str, int]]:
    """Check the label maps and image headers of one split, and count the pixels of each class.

    Args:
        dataset: A ``BaseSegDataset``, which is not wrapped in another one.
        num_classes_of_head: ``num_classes`` of the decode head.
        sample: How many maps to read, evenly spaced; None for all.
        training: Whether the split is trained on. A small validation set may lack a class.
        jobs: Processes that read.
        progress: Called with the number of maps that are read, and of those to be read.

    Returns:
        Findings of files, then of the split as a whole, and the pixels of each class in the maps
        that were read. A class without a pixel is a finding only if all maps were read.
    """
    total = len(dataset)
    number = total if sample is None else min(sample, total)
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    loader = next((vars(t) for t in transforms if isinstance(t, LoadImageFromFile)), {})
    loader = {k: loader[k] for k in ('color_type', 'imdecode_backend') if k in loader}
    backend = next(
        (t.imdecode_backend for t in transforms if isinstance(t, LoadAnnotations)), 'pillow'
    )
    check = partial(_check_pair, dataset, num_classes_of_head, backend, loader)
    indices = np.linspace(0, total - 1, number).astype(int).tolist()
    findings: list[Finding] = []
    stored = np.zeros(256, dtype=np.int64)  # pixels of each stored value
    maps = maps_with_0 = 0
    meaning = None
    for done, (found, counts, of_map) in enumerate(map_in_processes(check, indices, jobs), 1):
        findings += found
        if counts is not None:
            meaning = of_map
            stored += counts
            maps += 1
            maps_with_0 += bool(counts[0])
        progress(done, number)
    folder = str((getattr(dataset, 'data_prefix', None) or {}).get('seg_map_path', ''))
    findings = join_common(findings, folder, number, training)
    if not maps:
        return findings, {}
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    names = [str(name) for name in classes or range(num_classes_of_head)]
    whole = maps == total
    share_with_0 = maps_with_0 / maps
    found = _split_finding(folder, stored, meaning, names, maps, share_with_0, whole and training)
    pixels = {name: int(stored[meaning == label].sum()) for label, name in enumerate(names)}
    if found is not None:
        findings.append(found)
    elif whole:
        findings += [
            Finding(
                folder,
                'class without a pixel',
                f'{name!r} (label {label}) in {total} label maps',
                'unnoticed',
            )
            for label, name in enumerate(names)
            if not stored[meaning == label].any()
        ]
    return findings, pixels


def _check_pair(
    dataset: Dataset, num_classes: int, backend: str, loader: Mapping[str, Any], index: int
) -> tuple[list[Finding], np.ndarray | None, np.ndarray | None]:
    """Findings of a label map and its image, its pixels of each value, and their labels."""
    info = dataset.get_data_info(index)
    path = info.get('seg_map_path')
    if not path or '://' in path:
        return [], None, None
    labels, found = _read(path, backend)
    size = counts = meaning = None
    if labels is not None:
        size = labels.shape[1::-1]
        counts = _counts(labels)
        meaning = _meaning(info.get('reduce_zero_label'), info.get('label_map'))
        found += _value_findings(path, counts, meaning, num_classes)
    for finding in check_image_header(info['img_path'], size, loader):
        if finding.problem == 'size unlike its annotations':
            finding = replace(finding, problem='mask of another size')
        found.append(finding)
    return found, counts, meaning


def check_label_map(
    path: str,
    num_classes: int,
    reduce_zero_label: bool,
    ignore_index: int = _IGNORED,
    image_size: tuple[int, int] | None = None,
    backend: str = 'pillow',
) -> list[Finding]:
    """Check one label map by itself.

    Args:
        path: The file. A URL is not read.
        num_classes: Of the head.
        reduce_zero_label: Of the data set: 0 becomes ignored, and all others one less.
        ignore_index: The label of pixels that have none.
        image_size: Width and height in pixels of the image, as it is loaded; None to not compare.
        backend: ``imdecode_backend`` of ``LoadAnnotations``.
    """
    labels, found = (None, []) if '://' in path else _read(path, backend)
    if labels is None:
        return found
    size = labels.shape[1::-1]
    if image_size is not None and size != tuple(image_size):
        detail = f'{size[0]}x{size[1]} pixels, its image {image_size[0]}x{image_size[1]}'
        found.append(Finding(path, 'mask of another size', detail, 'replaced'))
    meaning = _meaning(reduce_zero_label, None)
    return found + _value_findings(path, _counts(labels), meaning, num_classes, ignore_index)


def check_single_class_head(model: Mapping[str, Any]) -> list[Finding]:
    """Find heads in the config of a segmenter or classifier that cannot learn with one output.

    A softmax over one logit is always 1: the loss is 0, and so is every gradient.
    """
    found = []
    for key in ('decode_head', 'auxiliary_head', 'head'):
        heads = model.get(key) or ()
        for head in heads if isinstance(heads, (list, tuple)) else [heads]:
            num_classes = head.get('num_classes')
            outputs = head.get('out_channels') or num_classes
            # Heads of queries have an output for "no object" too.
            if outputs != 1 or 'loss_cls' in head:
                continue
            setting = f'model.{key}'
            if key != 'head' and num_classes == 1:
                why = (
                    'num_classes=1 leaves no label for the background; give two classes '
                    "(classes=('background', NAME), num_classes=2), with labels 0 and 1"
                )
            elif _has_softmax(head.get('loss_decode' if key != 'head' else 'loss')):
                why = (
                    'a softmax over one output is always 1, and the loss 0; set use_sigmoid=True '
                    'in its CrossEntropyLoss, or give two outputs'
                )
            else:
                continue
            found.append(Finding(setting, 'head of one class', why, 'senseless'))
    return found


def _has_softmax(losses: Any) -> bool:
    losses = losses if isinstance(losses, (list, tuple)) else [losses]
    # Heads have it by default.
    return any(
        loss is None
        or (str(loss.get('type')).endswith('CrossEntropyLoss') and not loss.get('use_sigmoid'))
        for loss in losses
    )


def _read(path: str, backend: str) -> tuple[np.ndarray | None, list[Finding]]:
    """The stored labels, (height, width), as mmseg's ``LoadAnnotations`` decodes them."""
    labels, problem, why = None, 'mask cannot be decoded', ''
    try:
        content = Path(path).read_bytes()
        why = '' if content else 'the file is empty'
        labels = mmcv.imfrombytes(content, flag='unchanged', backend=backend)
    except FileNotFoundError:
        problem, why = 'mask missing', 'look at data_prefix.seg_map_path and seg_map_suffix'
    except Image.DecompressionBombError as error:
        why = f"{error}; set imdecode_backend='cv2' in LoadAnnotations, or tile images and maps"
    except Exception as error:  # whatever a decoder makes of a broken file
        why = why or f'{type(error).__name__}: {error}'
    if labels is not None:
        labels = labels.squeeze()
        if (unusable := unusable_labels(labels)) is None:
            return labels, []
        problem, why = unusable
    return None, [Finding(path, problem, why, 'replaced')]


def unusable_labels(labels: np.ndarray) -> tuple[str, str] | None:
    """Whether decoded labels, not yet converted to 8 bits, can be used.

    Returns:
        The problem, and its details with the fix; None if there is none.
    """
    if labels.ndim == 3:
        channels = labels.shape[2]
        if (labels[..., :3] == labels[..., :1]).all() and channels != 2:
            why = f'the labels are repeated in {channels} channels; save one of them'
        else:
            why = f'{channels} channels; save an image of one channel whose pixels are class labels'
        return 'label map with channels', why
    if labels.dtype.itemsize > 1:
        kept = labels.astype(np.uint8)
        if (wrong := labels != kept).any():
            value, becomes = labels[wrong][0], kept[wrong][0]
            why = (
                f'{labels.dtype} labels, of which 8 bits are kept: {value} becomes {becomes}; '
                'renumber the labels to 0 to 254'
            )
            return 'labels beyond 8 bits', why
    return None


def _counts(labels: np.ndarray) -> np.ndarray:
    """Pixels of each value from 0 to 255."""
    return np.bincount(labels.astype(np.uint8, copy=False).ravel(), minlength=256)


def _meaning(reduce_zero_label: bool | None, label_map: Mapping[int, int] | None) -> np.ndarray:
    """Label in training of each stored value, as mmseg's ``LoadAnnotations`` converts them."""
    labels = np.arange(256)
    if reduce_zero_label:
        labels = np.where((labels == 0) | (labels == 255), 255, labels - 1)
    before = labels.copy()
    for old, new in (label_map or {}).items():
        labels[before == old] = new
    return labels


def _value_findings(
    path: str,
    counts: np.ndarray,
    meaning: np.ndarray,
    num_classes: int,
    ignore_index: int = _IGNORED,
) -> list[Finding]:
    labels = np.unique(meaning[counts > 0])
    labels = labels[labels != ignore_index]
    if not labels.size:
        return [Finding(path, 'no labeled pixel', '', 'left out')]
    wrong = labels_outside(labels[None], num_classes)
    return [Finding(path, 'label outside the classes', wrong, 'stops')] if wrong else []


def _split_finding(
    folder: str,
    stored: np.ndarray,
    meaning: np.ndarray,
    names: Sequence[str],
    maps: int,
    share_with_0: float,
    conclusive: bool,
) -> Finding | None:
    """What all label maps of a split, together, show to be wrong."""
    values = np.flatnonzero(stored)
    if values.tolist() == [0, 255] and len(names) > 1:
        detail = (
            'all maps hold 0 and 255 alone, and 255 is ignored, so that one class at most is '
            'trained on and evaluated; save 1 instead of 255'
        )
        return Finding(folder, 'masks of 0 and 255', detail, 'senseless')
    reduced = meaning[0] == _IGNORED and meaning[1] == 0
    labels = set(meaning[values].tolist()) - {_IGNORED}
    # Labels from 0 on lose their class 0, and nothing is ever the last one.
    if not reduced or share_with_0 <= _MAPS_WITH_0 or labels != set(range(len(names) - 1)):
        return None
    share = stored[0] / stored.sum()
    detail = (
        f'reduce_zero_label ignores 0, which {share_with_0:.0%} of the {maps} maps read hold '
        f'and {share:.0%} of their pixels are, and no pixel is {len(names)} ({names[-1]!r}): '
        'if the labels start at 0, set reduce_zero_label=False'
    )
    # A thin border of 0 and a rare last class look the same.
    effect = 'senseless' if conclusive and share > _SHARE_OF_0 else 'unnoticed'
    return Finding(folder, 'reduce_zero_label over a class', detail, effect)

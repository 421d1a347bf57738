"""Masks of COCO annotations: broken outlines and run lengths, and masks beside their boxes."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from .coco_table import CocoTable
from .finding import Finding
from .run_lengths import decode_counts, extents, is_encoded

# A mask lies elsewhere than its box if they share less than this, and a side differs by pixels.
_OVERLAP, _PIXELS = 0.5, 2.0
# Shares of the masks that are broken, or beside their box, at which the file as a whole is wrong.
_MOST, _MANY = 0.5, 0.2
# Area of a polygon, by the square of its longer side, up to which its points lie on a line.
_FLAT = 1e-5

# Rows of annotations; (N, 4) left, top, right and bottom of their masks; the same with x and y
# exchanged; whether a mask holds no pixel.
_Extents = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
# Problem, detail and effect of a mask, None if it is sound.
_Problem = 'tuple[str, str, str] | None'


def check_masks(table: CocoTable, used: bool, training: bool = True) -> list[Finding]:
    """Check each mask by itself, against its image, and against its box.

    Args:
        table: The annotations.
        used: Whether masks are trained on or evaluated; otherwise they only check the boxes.
        training: Whether only mmdet's data set reads them, which leaves some out that end COCO's
            evaluation.
    """
    outlines, runs = _Outlines(training), _Runs(table, training)
    broken: list[Finding] = []
    for row, annotation in enumerate(table.annotations):
        mask = annotation.get('segmentation')
        if not mask:
            if used and not (training and annotation.get('iscrowd', False)):
                detail = f"'segmentation' is {mask!r}; write the object's mask"
                broken.append(table.finding(row, 'annotation without mask', detail, 'replaced'))
        elif problem := (runs if isinstance(mask, dict) else outlines).add(row, mask):
            broken.append(table.finding(row, *problem))
    broken += runs.decode()
    of_outlines, of_runs = outlines.extents(), runs.extents()
    rows, boxes, turned, empty = map(np.concatenate, zip(of_outlines, of_runs))
    from_runs = np.arange(len(rows)) >= len(of_outlines[0])
    broken += [
        table.finding(int(row), 'mask without area', 'the mask holds no pixel', 'unnoticed')
        for row in rows[empty]
        if not table.crowd[row]
    ]
    shown = ~empty
    return [
        *(_as_a_whole(table, broken) if used else ()),
        *_beside_box(table, rows[shown], boxes[shown], turned[shown], from_runs[shown], used),
    ]


class _Outlines:
    """Polygons, whose coordinates are gathered for all annotations."""

    def __init__(self, training: bool) -> None:
        self.training = training
        # Rows of annotations, and where those and each outline start in the coordinates.
        self.rows: list[int] = []
        self.starts: list[int] = []
        self.outline_starts: list[int] = []
        self.coordinates = array('f')

    def add(self, row: int, outlines: Any) -> _Problem:
        if not isinstance(outlines, list) or not isinstance(outlines[0], list):
            detail = f'{str(outlines)[:40]}... is no list of outlines; write [[x, y, x, y, ...]]'
            return 'outlines are not lists', detail, 'replaced'
        start, first, bad = len(self.coordinates), len(self.outline_starts), []
        for outline in outlines:
            length = len(outline) if isinstance(outline, list) else 0
            if length < 6 or length % 2:
                bad.append(length)
                continue
            before = len(self.coordinates)
            try:
                self.coordinates.extend(outline)
            except (TypeError, OverflowError):
                # The annotation's other outlines too: coordinates belong to the rows before them.
                del self.coordinates[start:], self.outline_starts[first:]
                return 'outline is not of numbers', f'such as {outline[:2]}', 'replaced'
            self.outline_starts.append(before)
        if len(self.coordinates) > start:
            self.rows.append(row)
            self.starts.append(start)
        if not bad:
            return None
        detail = f'an outline of {bad[0]} numbers; it takes three points, six numbers, or more'
        effect = 'left out' if len(bad) == len(outlines) else 'unnoticed'
        # The COCO API only looks at the first outline, and takes four numbers to be a box.
        if not self.training and len(outlines[0]) < 5:
            effect = 'stops evaluation'
        return 'outline is no polygon', detail, effect

    def extents(self) -> _Extents:
        if not self.rows:
            return np.array([], int), np.zeros((0, 4)), np.zeros((0, 4)), np.array([], bool)
        points = np.frombuffer(self.coordinates, np.float32).reshape(-1, 2)
        starts, first = np.array(self.starts) // 2, np.array(self.outline_starts) // 2
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        boxes = np.concatenate([low, high], 1).astype(float)
        lengths = np.diff(np.append(first, len(points)))
        with np.errstate(invalid='ignore', over='ignore'):
            x, y = (points - np.repeat(points[first], lengths, 0)).T
            # Triangles with the first point; the last of an outline is 0, as its point is.
            triangles = np.abs(x[:-1] * y[1:] - x[1:] * y[:-1])
            areas = np.add.reduceat(np.append(triangles, 0), starts)
            extent = np.maximum.reduceat(np.maximum(np.abs(x), np.abs(y)), starts)
            empty = ~(areas > _FLAT * extent**2)  # also if a point is not finite
        return np.array(self.rows), boxes, boxes[:, [1, 0, 3, 2]], empty


class _Runs:
    """Run lengths, gathered for all annotations."""

    def __init__(self, table: CocoTable, training: bool) -> None:
        self.table, self.training = table, training
        self.sizes = [(int(height), int(width)) for width, height in table.sizes]
        # Rows of annotations with runs as numbers and as text, the numbers, and the texts.
        self.rows: list[int] = []
        self.text_rows: list[int] = []
        self.runs = array('q')
        self.numbers: list[int] = []
        self.texts: list[str] = []

    def add(self, row: int, mask: dict) -> _Problem:
        counts, size = mask.get('counts'), mask.get('size')
        if not isinstance(counts, (list, str)) or not counts or not isinstance(size, list):
            detail = f'counts is {str(counts)[:20]!r}, size {size!r}; write both'
            effect = 'left out' if self.training else 'stops evaluation'
            return 'run lengths without counts', detail, effect
        expected = self.sizes[self.table.image_of[row]]
        if tuple(size) != expected:
            exchanged = tuple(size[::-1]) == expected
            detail = (
                f'{"width and height exchanged: " if exchanged else ""}size {size} of the runs, '
                f'the image is {list(expected)} (height, width)'
            )
            return 'mask of another size', detail, 'replaced'
        if isinstance(counts, str):
            if not is_encoded(counts):
                return 'run lengths are damaged', f'counts {counts[:20]!r}...', 'unnoticed'
            self.texts.append(counts)
            self.text_rows.append(row)
            return None
        before = len(self.runs)
        try:
            self.runs.extend(counts)
        except (TypeError, OverflowError):
            del self.runs[before:]
            return 'run lengths are damaged', f'counts {str(counts)[:20]}...', 'replaced'
        self.numbers.append(len(counts))
        self.rows.append(row)
        return None

    def decode(self) -> Iterator[Finding]:
        """Keep the masks whose runs are as many pixels as the image; findings of the others."""
        runs, numbers = decode_counts(self.texts)
        runs = np.concatenate([np.frombuffer(self.runs, np.int64), runs])
        numbers = np.concatenate([np.array(self.numbers, np.int64), numbers])
        rows = np.array(self.rows + self.text_rows, int)
        # (height, width)
        shapes = self.table.sizes[self.table.image_of[rows]][:, ::-1].astype(np.int64)
        first = np.cumsum(numbers) - numbers
        total = np.append(0, np.cumsum(runs))
        sums = total[first + numbers] - total[first]
        pixels = shapes.prod(1)
        negative = np.zeros(len(numbers), bool)
        negative[np.repeat(np.arange(len(numbers)), numbers)[runs < 0]] = True
        good = (sums == pixels) & ~negative
        self.kept = rows[good], runs[np.repeat(good, numbers)], numbers[good], shapes[good]
        for index in np.flatnonzero(~good):
            height, width = shapes[index]
            detail = (
                f'runs add up to {sums[index]} pixels, the mask has {height}x{width} = '
                f'{pixels[index]}; write all runs, the last one too'
            )
            short = sums[index] < pixels[index] and not negative[index]
            effect = 'unnoticed' if short else 'replaced'
            yield self.table.finding(rows[index], 'run lengths of another sum', detail, effect)

    def extents(self) -> _Extents:
        rows, runs, numbers, shapes = self.kept
        boxes = extents(runs, numbers, shapes[:, 0])
        turned = extents(runs, numbers, shapes[:, 1])[:, [1, 0, 3, 2]]
        return rows, boxes, turned, np.isnan(boxes).any(1)


def _as_a_whole(table: CocoTable, broken: list[Finding]) -> Iterator[Finding]:
    """One finding for what most masks have in common."""
    by_problem = defaultdict(list)
    for finding in broken:
        by_problem[finding.problem].append(finding)
    total = len(table.annotations)
    for problem, findings in by_problem.items():
        if len(findings) < max(_MOST * total, 2):
            yield from findings
            continue
        first = findings[0]
        effects = {'replaced': 'stops', 'stops evaluation': 'stops evaluation'}
        detail = f'{len(findings)} of {total} annotations, such as {first.detail}'
        yield Finding(table.path, problem, detail, effects.get(first.effect, 'senseless'))


def _beside_box(
    table: CocoTable,
    rows: np.ndarray,
    masks: np.ndarray,
    turned: np.ndarray,
    from_runs: np.ndarray,
    used: bool,
) -> Iterator[Finding]:
    """Masks that lie elsewhere than their boxes; all arguments as ``_Extents``."""
    corners = boxes = table.boxes[rows]
    boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    beside = np.flatnonzero(_differ(boxes, masks))
    where = [
        f'mask {masks[index].round(1).tolist()}, box {boxes[index].round(1).tolist()} (left, top, '
        'right, bottom)'
        for index in beside
    ]
    if len(beside) < max(_MANY * len(rows), 3):
        for index, detail in zip(beside, where):
            yield table.finding(int(rows[index]), 'mask beside its box', detail, 'unnoticed')
        return
    detail = (
        f'{len(beside)} of {len(rows)} masks, such as that of annotation '
        f'{table.annotations[rows[beside[0]]]["id"]}: {where[0]}'
    )
    boxes, corners, masks = boxes[beside], corners[beside], masks[beside]
    fit = (corners[:, 2:] > corners[:, :2]).all(1) & ~_differ(corners, masks)
    if np.mean(fit) > 0.9:
        detail += '; as left, top, right, bottom the boxes fit: write [left, top, width, height]'
        yield Finding(table.path, 'boxes are corners', detail, 'senseless')
        return
    problem, effect = 'masks beside their boxes', 'senseless' if used else 'unnoticed'
    from_runs = from_runs[beside]
    inside = (masks[:, :2] > boxes[:, :2] - _PIXELS) & (masks[:, 2:] < boxes[:, 2:] + _PIXELS)
    if np.mean(~_differ(boxes, turned[beside])) > 0.9:
        if from_runs.all():
            problem = 'run lengths go row by row'
            detail += "; COCO's go column by column: encode the transposed mask"
        else:
            detail += '; outlines are y, x: write x, y'
    elif not from_runs.any() and masks.max() <= 1:
        detail += '; outlines are shares of the image: write pixels'
    elif np.mean(inside.all(1)) > 0.9:
        # Amodal boxes hold the hidden parts of objects too.
        effect = 'unnoticed'
        detail += '; the masks are parts of what the boxes hold'
    else:
        detail += '; one of them is wrong'
    yield Finding(table.path, problem, detail, effect)


def _differ(boxes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(N,) whether two sets of boxes (left, top, right, bottom) lie elsewhere. NaN never does."""
    with np.errstate(invalid='ignore', divide='ignore'):
        low, high = np.maximum(boxes[:, :2], masks[:, :2]), np.minimum(boxes[:, 2:], masks[:, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        areas = [(sides[:, 2:] - sides[:, :2]).prod(1) for sides in (boxes, masks)]
        far = np.abs(boxes - masks).max(1) > _PIXELS
        return far & (shared < _OVERLAP * (sum(areas) - shared))

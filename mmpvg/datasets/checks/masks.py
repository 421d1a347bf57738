"""Masks of COCO annotations: outlines and run lengths that are none, and masks beside their box."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from .coco_table import CocoTable
from .finding import Finding
from .run_lengths import decode_counts, extents, is_encoded

# A mask lies elsewhere than its box where they share less than this, and a side differs by pixels.
_OVERLAP, _PIXELS = 0.5, 2.0
# Shares of the masks that are broken, or beside their box, at which the file as a whole is wrong.
_MOST, _MANY = 0.5, 0.2
# Area of a polygon, by the square of its longer side, up to which its points lie on a line.
_FLAT = 1e-5


def check_masks(table: CocoTable, used: bool, training: bool = True) -> list[Finding]:
    """Check each mask for itself, against its image, and against its box.

    Args:
        table: The annotations.
        used: Whether masks are trained on or evaluated; they only tell of the boxes otherwise.
        training: Whether mmdet's data set, which leaves some out, is all that reads them. COCO's
            evaluation ends at those.
    """
    outlines = _Outlines(training)
    runs = _Runs(table, training)
    broken: list[Finding] = []
    for row, annotation in enumerate(table.annotations):
        mask = annotation.get('segmentation')
        if not mask:
            if used and not (training and annotation.get('iscrowd', False)):
                detail = f"'segmentation' is {mask!r}; write the object's mask"
                broken.append(table.finding(row, 'annotation without mask', detail, 'replaced'))
            continue
        problem = (runs if isinstance(mask, dict) else outlines).add(row, mask)
        if problem:
            broken.append(table.finding(row, *problem))
    broken += runs.sum_findings()
    rows, boxes, sideways = outlines.extents()
    run_rows, run_boxes, run_sideways = runs.extents()
    rows = np.concatenate([rows, run_rows])
    boxes = np.concatenate([boxes, run_boxes])
    sideways = np.concatenate([sideways, run_sideways])
    of_runs = np.arange(len(rows)) >= len(rows) - len(run_rows)
    empty = np.concatenate([outlines.without_area(), np.isnan(run_boxes).any(1)])
    detail = 'the mask holds no pixel'
    broken += [
        table.finding(int(row), 'mask without area', detail, 'unnoticed')
        for row in rows[empty]
        if not table.crowd[row]
    ]
    found = list(_as_a_whole(table, broken)) if used else []
    shown = ~empty
    return found + _beside_box(
        table, rows[shown], boxes[shown], sideways[shown], of_runs[shown], used
    )


class _Outlines:
    """Polygons, whose coordinates are gathered for all annotations."""

    def __init__(self, training: bool) -> None:
        self.training = training
        self.rows: list[int] = []
        self.starts: list[int] = []
        self.outline_starts: list[int] = []
        self.coordinates = array('f')

    def add(self, row: int, outlines: Any) -> tuple[str, str, str] | None:
        """Take the outlines of an annotation; problem, detail and effect if there is one."""
        if not isinstance(outlines, list) or not isinstance(outlines[0], list):
            detail = f'{str(outlines)[:40]}... is no list of outlines; write [[x, y, x, y, ...]]'
            return 'outlines are not lists', detail, 'replaced'
        start, bad = len(self.coordinates), []
        for outline in outlines:
            length = len(outline) if isinstance(outline, list) else 0
            if length < 6 or length % 2:
                bad.append(length)
                continue
            before = len(self.coordinates)
            try:
                self.coordinates.extend(outline)
            except (TypeError, OverflowError):
                del self.coordinates[before:]
                return 'outline is not of numbers', f'such as {outline[:2]}', 'replaced'
            self.outline_starts.append(before)
        if len(self.coordinates) > start:
            self.rows.append(row)
            self.starts.append(start)
        if not bad:
            return None
        detail = f'an outline of {bad[0]} numbers; it takes three points, six numbers, or more'
        effect = 'left out' if len(bad) == len(outlines) else 'unnoticed'
        # The COCO API looks at the first outline alone, and takes four numbers to be a box.
        if not self.training and len(outlines[0]) < 5:
            effect = 'stops evaluation'
        return 'outline is no polygon', detail, effect

    def extents(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, (N, 4) left, top, right and bottom, and the same with x and y exchanged."""
        if not self.rows:
            return np.array([], int), np.zeros((0, 4)), np.zeros((0, 4))
        starts = np.array(self.starts) // 2
        points = np.frombuffer(self.coordinates, np.float32).reshape(-1, 2)
        low = np.minimum.reduceat(points, starts)
        high = np.maximum.reduceat(points, starts)
        boxes = np.concatenate([low, high], 1).astype(float)
        return np.array(self.rows), boxes, boxes[:, [1, 0, 3, 2]]

    def without_area(self) -> np.ndarray:
        """(N,) whether all points of each outline lie on a line, or some are not finite."""
        if not self.rows:
            return np.array([], bool)
        points = np.frombuffer(self.coordinates, np.float32).reshape(-1, 2)
        starts, first = np.array(self.starts) // 2, np.array(self.outline_starts) // 2
        lengths = np.diff(np.append(first, len(points)))
        with np.errstate(invalid='ignore', over='ignore'):
            x, y = (points - np.repeat(points[first], lengths, 0)).T
            # Of triangles with the first point; the last of an outline is 0, as its point is.
            triangles = np.abs(x[:-1] * y[1:] - x[1:] * y[:-1])
            areas = np.add.reduceat(np.append(triangles, 0), starts)
            extent = np.maximum.reduceat(np.maximum(np.abs(x), np.abs(y)), starts)
            return ~(areas > _FLAT * extent**2)


class _Runs:
    """Run lengths, gathered for all annotations."""

    def __init__(self, table: CocoTable, training: bool) -> None:
        self.table, self.training = table, training
        self.sizes = [(int(height), int(width)) for width, height in table.sizes]
        # Rows and sizes (height, width), of those written as numbers and as text.
        self.rows: tuple[list[int], list[int]] = ([], [])
        self.shapes: tuple[list[tuple], list[tuple]] = ([], [])
        self.runs = array('q')
        self.numbers: list[int] = []
        self.texts: list[str] = []

    def add(self, row: int, mask: dict) -> tuple[str, str, str] | None:
        """Take the runs of an annotation; problem, detail and effect if there is one."""
        counts, size = mask.get('counts'), mask.get('size')
        if not isinstance(counts, (list, str)) or not counts or not isinstance(size, list):
            detail = f'counts is {str(counts)[:20]!r}, size {size!r}; write both'
            effect = 'left out' if self.training else 'stops evaluation'
            return 'run lengths without counts', detail, effect
        expected = self.sizes[self.table.image_of[row]]
        if tuple(size) != expected:
            told = 'width and height exchanged: ' if tuple(size[::-1]) == expected else ''
            detail = (
                f'{told}size {list(size)} of the runs, the image is {list(expected)} (height, '
                'width)'
            )
            return 'mask of another size', detail, 'replaced'
        if isinstance(counts, str):
            if not is_encoded(counts):
                return 'run lengths are damaged', f'counts {counts[:20]!r}...', 'unnoticed'
            self.texts.append(counts)
        else:
            before = len(self.runs)
            try:
                self.runs.extend(counts)
            except (TypeError, OverflowError):
                del self.runs[before:]
                return 'run lengths are damaged', f'counts {str(counts)[:20]}...', 'replaced'
            self.numbers.append(len(counts))
        kind = int(isinstance(counts, str))
        self.rows[kind].append(row)
        self.shapes[kind].append(expected)
        return None

    def sum_findings(self) -> list[Finding]:
        """Masks whose runs are not as many pixels as the image; the others are kept."""
        runs, numbers = decode_counts(self.texts)
        runs = np.concatenate([np.frombuffer(self.runs, np.int64), runs])
        numbers = np.concatenate([np.array(self.numbers, np.int64), numbers])
        rows = np.array(self.rows[0] + self.rows[1], int)
        shapes = np.array(self.shapes[0] + self.shapes[1], np.int64).reshape(-1, 2)
        first = np.cumsum(numbers) - numbers
        total = np.append(0, np.cumsum(runs))
        sums = total[first + numbers] - total[first]
        pixels = shapes.prod(1)
        negative = np.zeros(len(numbers), bool)
        negative[np.repeat(np.arange(len(numbers)), numbers)[runs < 0]] = True
        bad = (sums != pixels) | negative
        findings = []
        for index in np.flatnonzero(bad):
            height, width = shapes[index]
            detail = (
                f'runs add up to {sums[index]} pixels, the mask has {height}x{width} = '
                f'{pixels[index]}; write all runs, the last one too'
            )
            short = sums[index] < pixels[index] and not negative[index]
            findings.append(
                self.table.finding(
                    int(rows[index]),
                    'run lengths of another sum',
                    detail,
                    'unnoticed' if short else 'replaced',
                )
            )
        kept = np.repeat(~bad, numbers)
        self.decoded = runs[kept], numbers[~bad], rows[~bad], shapes[~bad]
        return findings

    def extents(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, (N, 4) left, top, right and bottom, and the same for runs that go row by row."""
        runs, numbers, rows, shapes = self.decoded
        boxes = extents(runs, numbers, shapes[:, 0])
        return rows, boxes, extents(runs, numbers, shapes[:, 1])[:, [1, 0, 3, 2]]


def _as_a_whole(table: CocoTable, broken: list[Finding]) -> Iterator[Finding]:
    """One finding for what most masks have in common."""
    by_problem: dict[str, list[Finding]] = {}
    for finding in broken:
        by_problem.setdefault(finding.problem, []).append(finding)
    for problem, findings in by_problem.items():
        if len(findings) >= max(_MOST * len(table.annotations), 2):
            detail = (
                f'{len(findings)} of {len(table.annotations)} annotations, such as '
                f'{findings[0].detail}'
            )
            effect = findings[0].effect
            if effect != 'stops evaluation':
                effect = 'stops' if effect == 'replaced' else 'senseless'
            yield Finding(table.path, problem, detail, effect)
        else:
            yield from findings


def _beside_box(
    table: CocoTable,
    rows: np.ndarray,
    masks: np.ndarray,
    sideways: np.ndarray,
    of_runs: np.ndarray,
    used: bool,
) -> list[Finding]:
    """Masks that lie elsewhere than their boxes."""
    corners = boxes = table.boxes[rows]
    boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    beside = _differ(boxes, masks)
    number = int(beside.sum())
    if number < max(_MANY * len(rows), 3):
        return [
            table.finding(
                int(rows[index]),
                'mask beside its box',
                f'mask {_told(masks[index])}, box {_told(boxes[index])} (left, top, right, bottom)',
                'unnoticed',
            )
            for index in np.flatnonzero(beside)
        ]
    index = int(np.flatnonzero(beside)[0])
    detail = (
        f'{number} of {len(rows)} masks, such as that of annotation '
        f'{table.annotations[rows[index]]["id"]}: mask {_told(masks[index])}, box '
        f'{_told(boxes[index])} (left, top, right, bottom)'
    )
    fit = (corners[:, 2:] > corners[:, :2]).all(1) & ~_differ(corners, masks)
    if np.mean(fit[beside]) > 0.9:
        detail += '; as left, top, right, bottom the boxes fit: write [left, top, width, height]'
        return [Finding(table.path, 'boxes are corners', detail, 'senseless')]
    # Boxes may be meant to hold more than the mask, such as parts that are hidden.
    effect = 'senseless' if used else 'unnoticed'
    turned = np.mean(~_differ(boxes, sideways)[beside]) > 0.9
    if turned and of_runs[beside].all():
        return [
            Finding(
                table.path,
                'run lengths go row by row',
                f"{detail}; COCO's go column by column: encode the transposed mask",
                effect,
            )
        ]
    if turned:
        detail += '; outlines are y, x: write x, y'
    elif not of_runs[beside].any() and masks[~of_runs].max() <= 1:
        detail += '; outlines are shares of the image: write pixels'
    else:
        detail += '; one of them is wrong'
    return [Finding(table.path, 'masks beside their boxes', detail, effect)]


def _differ(boxes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(N,) whether two sets of boxes (left, top, right, bottom) lie elsewhere. NaN never does."""
    with np.errstate(invalid='ignore', divide='ignore'):
        low, high = np.maximum(boxes[:, :2], masks[:, :2]), np.minimum(boxes[:, 2:], masks[:, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        union = (
            (boxes[:, 2:] - boxes[:, :2]).prod(1) + (masks[:, 2:] - masks[:, :2]).prod(1) - shared
        )
        far = np.abs(boxes - masks).max(1) > _PIXELS
        return far & (shared < _OVERLAP * union)


def _told(box: np.ndarray) -> list[float]:
    return [round(float(value), 1) for value in box]

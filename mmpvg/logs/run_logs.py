"""Reads the logs of trainings: losses, learning rates and metrics over the iterations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmpvg.utils.errors import MissingFileError, UserError

# In every line, and no result.
_NO_CURVES = ('epoch', 'iter', 'step', 'time', 'data_time', 'memory')


@dataclass
class Curve:
    """Logged values of a training.

    Attributes:
        iterations: Their iterations, ascending.
        values: The values.
        measured: Whether a validation logged them, not the training.
    """

    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    measured: bool = False

    def smoothed(self, window: int) -> list[float]:
        """Means over ``window`` values around each, or as many of them as there are."""
        before, after = (window - 1) // 2, window // 2
        around = (
            self.values[max(place - before, 0) : place + after + 1]
            for place in range(len(self.values))
        )
        return [sum(values) / len(values) for values in around]


def read_run_logs(work_dir: str | Path) -> dict[str, Curve]:
    """Read what mmengine logged in the folder of a run, with all its resumes.

    What was logged after the checkpoint that was resumed is left out, and so is a line that a kill
    has cut off. Validations of a training by epochs are at the iteration that ended the epoch.

    Args:
        work_dir: The run's folder, or a ``scalars.json`` of mmengine.

    Returns:
        Name -> curve, in the order of their first lines.

    Raises:
        MissingFileError: If there is no log.
        UserError: If a log has no curve.
    """
    path = Path(work_dir)
    files = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        raise MissingFileError(
            f'{path} holds no log of mmengine (TIMESTAMP/vis_data/scalars.json); give the work dir '
            'of a run'
        )
    curves: dict[str, Curve] = {}
    ends: dict[int, int] = {}  # epoch -> its last iteration so far
    for file in files:
        begun = False
        for line in _lines(file):
            trained = 'iter' in line
            if trained:
                iteration = line['step']
                if 'epoch' in line:
                    ends[line['epoch']] = iteration
            else:
                # A validation counts epochs where the training does.
                iteration = ends.get(line['step'], line['step'])
            if trained and not begun:
                _forget(curves, ends, iteration)
                begun = True
            for name, value in line.items():
                if name in _NO_CURVES or not isinstance(value, (int, float)):
                    continue
                curve = curves.setdefault(name, Curve(measured=not trained))
                curve.iterations.append(iteration)
                curve.values.append(float(value))
    curves = {name: curve for name, curve in curves.items() if curve.values}
    if not curves:
        raise UserError(f'{path} has a log without a curve: its run ended before the first line')
    return curves


def _forget(curves: dict[str, Curve], ends: dict[int, int], iteration: int) -> None:
    """Drop what was logged from an iteration on."""
    for curve in curves.values():
        kept = sum(place < iteration for place in curve.iterations)
        del curve.iterations[kept:], curve.values[kept:]
    for epoch in [epoch for epoch, end in ends.items() if end >= iteration]:
        del ends[epoch]


def _lines(file: Path) -> Iterator[dict]:
    for text in file.read_text(encoding='utf-8').splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and 'step' in line:
            yield line

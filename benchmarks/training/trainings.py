"""Several trainings of one config, each in a process of its own, and what they reach."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.launcher import Process, in_parallel, training_command
from mmpvg.logs.run_logs import read_run_logs
from mmpvg.utils.errors import UserError
from mmpvg.utils.whole_file import write_whole


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        name: Its folder.
        options: ``KEY=VALUE`` settings of the config.
    """

    name: str
    options: tuple[str, ...]


def run_trainings(
    trainings: Sequence[Training],
    config: str,
    out_dir: str | Path,
    metric: str,
    jobs: int = 1,
    progress: Callable[[int, Training, float], None] = lambda done, training, value: None,
) -> dict[Training, float]:
    """Train what is not trained yet; what was interrupted goes on.

    Args:
        trainings: What to train.
        config: Config of them all.
        out_dir: A folder for each is made there; finished ones are not run again.
        metric: Metric of the last validation that is returned.
        jobs: Trainings at a time. With several, each computes on one thread.
        progress: Called after each with how many are done, the training and its metric.

    Returns:
        Training -> metric.

    Raises:
        ChildProcessError: If one fails; the message ends with its last lines.
        UserError: If a folder holds a training of other settings.
    """
    out_dir = Path(out_dir)
    return in_parallel(
        lambda training: _train(training, config, out_dir / training.name, metric, jobs),
        trainings,
        jobs,
        progress,
    )


def _train(training: Training, config: str, folder: Path, metric: str, jobs: int) -> float:
    done, asked = folder / 'reached.json', dict(config=config, options=list(training.options))
    _check_same(folder / 'asked.json', asked)
    if done.is_file():
        return json.loads(done.read_text())[metric]
    command = training_command(config, folder, training.options, '--resume')
    Process(command, folder / 'output.txt', threads=1 if jobs > 1 else None).run()
    value = read_run_logs(folder)[metric].values[-1]
    done.write_text(json.dumps({metric: value}))
    return value


def _check_same(path: Path, asked: dict) -> None:
    """Note what a folder's training is of, and refuse another in it."""
    if not path.is_file():
        write_whole(path, json.dumps(asked, indent=1))
        return
    before = json.loads(path.read_text())
    if before != asked:
        raise UserError(
            f'{path.parent} holds a training of {before["config"]} with '
            f'{" ".join(before["options"])}; remove it, or give another --out'
        )

"""Deliveries x poolings x seeds on the sample classification, trained and counted."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from .trainings import Training, run_trainings

_METRIC = 'accuracy/top1'


@dataclass(frozen=True)
class StudyRun:
    """One training.

    Attributes:
        delivery: How the position embedding travels.
        pooling: ``average`` or ``ggem``.
        seed: Seed of weights, order and augmentation.
    """

    delivery: str
    pooling: str
    seed: int

    @property
    def name(self) -> str:
        """The run's folder."""
        return f'{self.delivery}_{self.pooling}_{self.seed}'

    @property
    def options(self) -> tuple[str, ...]:
        """Settings of the config that make it this run."""
        return (
            f'model.backbone.pe_delivery={self.delivery}',
            f'model.neck.pooling={self.pooling}',
            f'randomness.seed={self.seed}',
        )


@dataclass(frozen=True)
class Result:
    """Accuracy of several seeds of one delivery and pooling, in percent.

    Attributes:
        delivery: As of the runs.
        pooling: As of the runs.
        accuracies: Of each seed.
        mean: Their mean.
        spread: Their sample standard deviation, 0 for a single seed.
    """

    delivery: str
    pooling: str
    accuracies: tuple[float, ...]
    mean: float
    spread: float


def plan_study(
    deliveries: Sequence[str], poolings: Sequence[str], num_seeds: int
) -> list[StudyRun]:
    """All runs, seeds outermost, so that an interrupted study is a smaller study.

    Raises:
        ValueError: If there is no seed.
    """
    if num_seeds < 1:
        raise ValueError(f'a study needs at least one seed, got {num_seeds}')
    return [StudyRun(d, p, seed) for seed, d, p in product(range(num_seeds), deliveries, poolings)]


def run_study(
    runs: Sequence[StudyRun],
    config: str,
    out_dir: str | Path,
    options: Sequence[str] = (),
    jobs: int = 1,
    progress: Callable[[int, StudyRun, float], None] = lambda done, run, accuracy: None,
) -> dict[StudyRun, float]:
    """Train what is not trained yet, each run in a process of its own.

    Args:
        runs: What to train.
        config: Config of a classifier with the neck ``mmpvg.TokenPooling``.
        out_dir: A folder for each run is made there; finished ones are not run again.
        options: Further ``KEY=VALUE`` settings of the config.
        jobs: Runs at a time. With several, each computes on one thread.
        progress: Called after each run with how many are done, the run and its accuracy.

    Returns:
        Run -> accuracy after the last epoch, in percent.

    Raises:
        ChildProcessError: If a run fails; the message ends with its last lines.
    """
    trainings = {run: Training(run.name, (*run.options, *options)) for run in runs}
    by_name = {run.name: run for run in runs}
    reached = run_trainings(
        list(trainings.values()),
        config,
        out_dir,
        _METRIC,
        jobs,
        lambda done, training, accuracy: progress(done, by_name[training.name], accuracy),
    )
    return {run: reached[training] for run, training in trainings.items()}


def summarize(accuracies: dict[StudyRun, float]) -> list[Result]:
    """Mean and spread over seeds, in the order of the runs' deliveries and poolings."""
    cells: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for run, accuracy in accuracies.items():
        cells.setdefault((run.delivery, run.pooling), []).append((run.seed, accuracy))
    results = []
    for (delivery, pooling), by_seed in cells.items():
        values = tuple(accuracy for _, accuracy in sorted(by_seed))
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        results.append(Result(delivery, pooling, values, statistics.mean(values), spread))
    return results

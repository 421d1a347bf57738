"""Deliveries x poolings x seeds on the sample classification, trained and counted."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path

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
        RuntimeError: If a run fails; the message ends with its last lines.
    """
    out_dir = Path(out_dir)
    accuracies: dict[StudyRun, float] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            pool.submit(_train, run, config, out_dir / run.name, options, jobs): run for run in runs
        }
        try:
            for future in as_completed(waiting):
                run = waiting[future]
                accuracies[run] = future.result()
                progress(len(accuracies), run, accuracies[run])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {run: accuracies[run] for run in runs}


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


def _train(run: StudyRun, config: str, folder: Path, options: Sequence[str], jobs: int) -> float:
    done = folder / 'accuracy.json'
    if done.is_file():
        return json.loads(done.read_text())[_METRIC]
    command = [sys.executable, '-c', 'from mmpvg.engine.cli import train; train()', config]
    command += [
        '--work-dir',
        str(folder),
        '--cfg-options',
        f'model.backbone.pe_delivery={run.delivery}',
    ]
    command += [f'model.neck.pooling={run.pooling}', f'randomness.seed={run.seed}', *options]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'} if jobs > 1 else None
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        last = '\n'.join(process.stderr.splitlines()[-5:])
        raise RuntimeError(f'{run.name} failed:\n{last}')
    lines = max(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    accuracy = [json.loads(line) for line in lines if _METRIC in line][-1][_METRIC]
    done.write_text(json.dumps({_METRIC: accuracy}))
    return accuracy

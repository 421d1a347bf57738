"""Several trainings of one config, each in a process of its own, and what they reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

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
        metric: What is logged of the last validation and tells how good they are.
        jobs: Trainings at a time. With several, each computes on one thread.
        progress: Called after each with how many are done, the training and its metric.

    Returns:
        Training -> metric.

    Raises:
        ChildProcessError: If one fails; the message ends with its last lines.
        ValueError: If a folder holds a training of other settings.
    """
    out_dir = Path(out_dir)
    reached: dict[Training, float] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {
            pool.submit(_train, training, config, out_dir / training.name, metric, jobs): training
            for training in trainings
        }
        try:
            for future in as_completed(waiting):
                training = waiting[future]
                reached[training] = future.result()
                progress(len(reached), training, reached[training])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {training: reached[training] for training in trainings}


def _train(training: Training, config: str, folder: Path, metric: str, jobs: int) -> float:
    done, asked = folder / 'reached.json', dict(config=config, options=list(training.options))
    _check_same(folder / 'asked.json', asked)
    if done.is_file():
        return json.loads(done.read_text())[metric]
    command = [sys.executable, '-c', 'from mmpvg.apis.cli import train; train()', config]
    command += ['--work-dir', str(folder), '--resume', '--cfg-options', *training.options]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'} if jobs > 1 else None
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        last = '\n'.join(process.stderr.splitlines()[-5:])
        raise ChildProcessError(f'{training.name} failed:\n{last}')
    value = last_logged(folder, metric)
    done.write_text(json.dumps({metric: value}))
    return value


def last_logged(folder: Path, metric: str) -> float:
    """What a training logged last of a metric: in its last run, for it may have been resumed."""
    lines = max(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in lines if f'"{metric}"' in line][-1][metric]


def _check_same(path: Path, asked: dict) -> None:
    """Note what a folder's training is of, and refuse another in it."""
    if not path.is_file():
        write_whole(path, json.dumps(asked, indent=1))
        return
    before = json.loads(path.read_text())
    if before != asked:
        raise ValueError(
            f'{path.parent} holds a training of {before["config"]} with '
            f'{" ".join(before["options"])}; remove it, or give another --out'
        )

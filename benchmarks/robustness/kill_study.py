"""Kill trainings at chosen and at random instants, resume them, and compare what they end with."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.launcher import Process, in_parallel, training_command
from mmpvg.checkpoints import load_pth
from mmpvg.utils.preemption import REQUEUE_EXIT_CODE
from mmpvg.utils.whole_file import PART_SUFFIX

#: SIGKILL at a random instant of the training, SIGKILL while a checkpoint is written, SIGTERM.
KINDS = ('random', 'saving', 'sigterm')


@dataclass(frozen=True)
class Trial:
    """A training that is interrupted once.

    Attributes:
        kind: One of ``KINDS``.
        seed: Of the instant.
    """

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """The trial's folder."""
        return f'{self.kind}_{self.seed}'


@dataclass(frozen=True)
class Outcome:
    """What became of an interrupted training.

    Attributes:
        trial: Which.
        exit_code: Of the interrupted process; negative for a signal.
        half_written: A checkpoint was being written when it was killed.
        whole: All checkpoints that it left can be read.
        resumed_at: Iteration from which it went on; 0 for a start from the beginning.
        differing: Tensors of the model and the optimizer that are not bit-equal to those of the
            training that was never interrupted.
    """

    trial: Trial
    exit_code: int
    half_written: bool
    whole: bool
    resumed_at: int
    differing: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """It ended as the uninterrupted one, and lost nothing that was on the disk."""
        requeues = self.trial.kind != 'sigterm' or self.exit_code == REQUEUE_EXIT_CODE
        return requeues and self.whole and not self.differing


def plan_kills(**counts: int) -> list[Trial]:
    """Trials of each kind.

    Args:
        **counts: Kind -> number.

    Raises:
        ValueError: If a kind is not known.
    """
    for kind in counts:
        if kind not in KINDS:
            raise ValueError(f'kind {kind!r} is not known; there are {", ".join(KINDS)}')
    return [Trial(kind, seed) for kind, number in counts.items() for seed in range(number)]


def run_kill_study(
    trials: Sequence[Trial],
    config: str,
    out_dir: str | Path,
    options: Sequence[str] = (),
    jobs: int = 1,
    progress: Callable[[int, Outcome], None] = lambda done, outcome: None,
) -> list[Outcome]:
    """Train once without, and for each trial with an interruption.

    Args:
        trials: The interruptions.
        config: Config of the training.
        out_dir: A folder for each training is made there; it must not hold earlier ones.
        options: ``KEY=VALUE`` settings of the config. The training must write some checkpoints.
        jobs: Trials at a time. Each training computes on one thread, whatever the number.
        progress: Called after each trial with how many are done and the outcome.

    Raises:
        FileExistsError: If a folder of a training is there already.
        ChildProcessError: If a training fails by itself; the message ends with its last lines.
        ValueError: If the training writes less than three checkpoints.
    """
    out_dir = Path(out_dir)
    for name in ['whole', *(trial.name for trial in trials)]:
        if (out_dir / name).exists():
            raise FileExistsError(f'{out_dir / name} is of an earlier study; give another folder')
    whole = _Training(config, out_dir / 'whole', options)
    whole.start()
    times = [time.monotonic() for _ in whole.checkpoints()]
    whole.finish()
    if len(times) < 3:
        raise ValueError(f'{config} writes {len(times)} checkpoints; a study needs 3 or more')
    pace = (times[-1] - times[0]) / (len(times) - 1)
    expected = whole.tensors()

    def run(trial: Trial) -> Outcome:
        training = _Training(config, out_dir / trial.name, options)
        return _run_trial(trial, training, len(times), pace, expected)

    outcomes = in_parallel(run, trials, jobs, lambda done, _, outcome: progress(done, outcome))
    return list(outcomes.values())


def _run_trial(
    trial: Trial, training: _Training, number: int, pace: float, expected: dict[str, Tensor]
) -> Outcome:
    """Interrupt the training between its first checkpoint and its last but one."""
    chance = random.Random(f'{trial.kind} {trial.seed}')
    wait_for = chance.randrange(1, number)
    training.start()
    if trial.kind == 'saving':
        _take(training.parts(), wait_for)
    else:
        _take(training.checkpoints(), min(wait_for, number - 2))
        training.wait_for(chance.uniform(0, pace))
    exit_code = training.interrupt(signal.SIGTERM if trial.kind == 'sigterm' else signal.SIGKILL)
    half_written = any(training.folder.glob(f'*.pth.*{PART_SUFFIX}'))
    whole = all(_is_whole(path) for path in training.folder.glob('*.pth'))
    resumed_at = training.saved_iteration()
    training.start()
    training.finish()
    found = training.tensors()
    differing = [
        name
        for name in sorted({*found, *expected})
        if name not in found or name not in expected or not torch.equal(found[name], expected[name])
    ]
    return Outcome(trial, exit_code, half_written, whole, resumed_at, tuple(differing))


class _Training(Process):
    """A training with ``--resume``, so that it can be started again after an interruption."""

    def __init__(self, config: str, folder: Path, options: Sequence[str]) -> None:
        super().__init__(
            training_command(config, folder, options, '--resume'), folder / 'output.txt'
        )
        self.folder = folder

    def checkpoints(self) -> Iterator[str]:
        """Names of checkpoints as they appear, until the process ends."""
        return self._appearing('*.pth')

    def parts(self) -> Iterator[str]:
        """Names of files that are being written, until the process ends."""
        return self._appearing(f'*.pth.*{PART_SUFFIX}')

    def wait_for(self, seconds: float) -> None:
        """Wait, at most until the next checkpoint: this training may be faster than `whole`."""
        deadline, before = time.monotonic() + seconds, set(self.folder.glob('*.pth'))
        while time.monotonic() < deadline and before.issuperset(self.folder.glob('*.pth')):
            time.sleep(2e-4)

    def saved_iteration(self) -> int:
        """Iteration from which a resume goes on."""
        return self._last()['meta']['iter'] if (self.folder / 'last_checkpoint').exists() else 0

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the last checkpoint's model and optimizer."""
        last = self._last()
        return dict(_tensors_in({key: last[key] for key in ('state_dict', 'optimizer')}))

    def _last(self) -> dict:
        return load_pth(Path((self.folder / 'last_checkpoint').read_text()))

    def _appearing(self, pattern: str) -> Iterator[str]:
        seen = set()
        while True:
            ended = self.process.poll() is not None
            new = [path.name for path in self.folder.glob(pattern) if path.name not in seen]
            yield from new
            seen.update(new)
            if ended:
                return
            time.sleep(2e-4)


def _take(names: Iterator[str], number: int) -> None:
    for _ in range(number):
        if next(names, None) is None:
            raise RuntimeError('the training ended before it could be interrupted')


def _is_whole(path: Path) -> bool:
    try:
        return 'state_dict' in load_pth(path)
    except Exception:
        return False


def _tensors_in(node: Any, name: str = '') -> Iterator[tuple[str, Tensor]]:
    if isinstance(node, Tensor):
        yield name, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _tensors_in(value, f'{name}.{key}' if name else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _tensors_in(value, f'{name}.{index}')

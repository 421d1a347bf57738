"""Runs trainings and other commands of this repository in processes, several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs/sample'

_Item, _Result = TypeVar('_Item'), TypeVar('_Result')


def training_command(
    config: str | Path, work_dir: Path, options: Sequence[str] = (), *arguments: str
) -> list[Any]:
    """Make the command of a training.

    Args:
        config: Its config.
        work_dir: Its folder.
        options: ``KEY=VALUE`` settings of the config.
        *arguments: Further arguments of ``tools/train.py``.
    """
    command = [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', work_dir]
    return [*command, *arguments, *(['--cfg-options', *options] if options else [])]


class Process:
    """A command of this repository, whose output is appended to a file.

    Args:
        command: The command and its arguments.
        log: The file.
        threads: Threads that torch computes with; None for its own choice. Sums of floats depend on
            the number.
    """

    def __init__(self, command: Sequence[Any], log: Path, threads: int | None = 1) -> None:
        self.command, self.log, self.threads = list(map(str, command)), log, threads

    def start(self) -> None:
        """Start the command, in a process group of its own."""
        paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths))}
        if self.threads is not None:
            environment['OMP_NUM_THREADS'] = str(self.threads)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open('a') as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        try:
            return self.process.wait()
        except BaseException:
            # An interrupt of this process does not reach that group.
            self.interrupt(signal.SIGTERM)
            raise

    def interrupt(self, number: signal.Signals) -> int:
        """Send a signal to the process and its children, and return the exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait()

    def finish(self) -> None:
        """Wait for the end.

        Raises:
            ChildProcessError: If the command fails; the message ends with its last lines.
        """
        if code := self.wait():
            last = '\n'.join(self.log.read_text().splitlines()[-5:])
            raise ChildProcessError(f'{self.log} failed with exit code {code}:\n{last}')

    def run(self) -> None:
        """Start the command and wait for its end; see ``finish``."""
        self.start()
        self.finish()


def in_parallel(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    jobs: int,
    progress: Callable[[int, _Item, _Result], None],
) -> dict[_Item, _Result]:
    """Call a function on every item, several at a time; the first failure ends all.

    Args:
        function: What to call, in a thread.
        items: The items.
        jobs: Calls at a time.
        progress: Called after each with how many are done, the item and its result.

    Returns:
        Item -> result, in the order of the items.
    """
    results: dict[_Item, _Result] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(function, item): item for item in items}
        try:
            for future in as_completed(waiting):
                item = waiting[future]
                results[item] = future.result()
                progress(len(results), item, results[item])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {item: results[item] for item in items}


class Countdown:
    """Prints what is done, and how long the rest will take.

    Args:
        total: How many there are.
    """

    def __init__(self, total: int) -> None:
        self.total, self.started = total, time.monotonic()

    def __call__(self, done: int, text: str) -> None:
        """Print a line."""
        left = (time.monotonic() - self.started) / done * (self.total - done)
        print(f'{done}/{self.total}  {text}  ({left / 60:.0f} min left)', flush=True)


def hook_option(config: str | Path, kind: str, setting: str) -> str:
    """Name a setting of a custom hook as ``--cfg-options`` takes it, by the type of the hook.

    Args:
        config: The config.
        kind: Type of the hook, such as ``mmpvg.BrokenDataHook``.
        setting: What is to be set, as ``KEY=VALUE``.
    """
    hooks = Config.fromfile(config).custom_hooks
    (place,) = (index for index, hook in enumerate(hooks) if hook.type == kind)
    return f'custom_hooks.{place}.{setting}'

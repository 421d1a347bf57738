"""Signals at which a run ends and goes on later, from the first moment of its process.

Imports nothing heavy: ``tools/train.py`` calls ``exit_on_signal`` before all else.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

# EX_TEMPFAIL of sysexits.h: try again later. Schedulers can requeue on it.
REQUEUE_EXIT_CODE = 75
SIGNALS = ('SIGTERM', 'SIGUSR1')

# The launching scripts name a file in this variable. Its lines: 'pid N' of a process that takes
# signals, 'signaled' of a script that got one, 'exit N' of a process that ended because of one.
_VARIABLE = 'MMPVG_EXIT_CODE_FILE'


def exit_on_signal() -> None:
    """Exit with code 75 on SIGTERM or SIGUSR1, from now until ``PreemptionHook`` listens.

    Until then there is nothing to save, and without this the process would be killed, with an exit
    code on which no scheduler requeues. A process that torchrun starts again after the signal ends
    at once.
    """
    for name in SIGNALS:
        signal.signal(signal.Signals[name], partial(_exit, os.getpid()))
    file = _file()
    if file is None:
        return
    _append(f'pid {os.getpid()}')
    if _was_signaled():
        # Not with 75, on which torchrun would start the process once more.
        sys.exit(exit_code_after_signal(REQUEUE_EXIT_CODE))


def exit_code_after_signal(code: int) -> int:
    """Record the exit code of a run that ends because of a signal.

    Returns:
        The exit code of the process: 0 under a launching script that got the signal, which exits
        with ``code`` itself. Otherwise ``code``, by which torchrun notices that one has failed.
    """
    if _VARIABLE not in os.environ:
        return code
    _append(f'exit {code}')
    return 0 if _was_signaled() else code


def after_training(handler: Any) -> Any:
    """The handler of a signal that a finished training leaves behind.

    That of ``exit_on_signal`` would requeue a run that is complete, so the signal is ignored from
    here on; any other is what it was before the training.
    """
    of_this_script = isinstance(handler, partial) and handler.func is _exit
    return signal.SIG_IGN if of_this_script else handler


def ignore_signals() -> None:
    """Let no signal change the exit code of a process whose work is done."""
    for name in SIGNALS:
        signal.signal(signal.Signals[name], signal.SIG_IGN)


def _exit(owner: int, number: int, frame: FrameType | None) -> None:
    if os.getpid() != owner:
        # A forked worker, whose owner ends it so.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    name = signal.Signals(number).name
    os.write(2, f'mmpvg: {name}: exit code 75, nothing saved that was not before\n'.encode())
    if 'TORCHELASTIC_RUN_ID' not in os.environ or _was_signaled():
        # Otherwise torchrun ends the processes beside one that failed, or starts all again.
        exit_code_after_signal(REQUEUE_EXIT_CODE)
    # With 75 in any case: the launcher must end the other processes, which may have no signal.
    os._exit(REQUEUE_EXIT_CODE)


def _file() -> Path | None:
    file = Path(os.environ.get(_VARIABLE, ''))
    # On other hosts of a slurm job there is none.
    return file if file.is_file() else None


def _was_signaled() -> bool:
    file = _file()
    return file is not None and 'signaled' in file.read_text().splitlines()


def _append(line: str) -> None:
    file = _file()
    if file is not None:
        with file.open('a') as lines:
            lines.write(line + '\n')

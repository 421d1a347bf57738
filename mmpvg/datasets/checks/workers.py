"""Work on many files in several processes, which Ctrl-C ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

# What a worker process does, which is sent to it once.
_work: Callable[[Any], Any]


def map_in_processes(
    work: Callable[[Any], Any], items: Sequence[Any], jobs: int, chunk: int = 32
) -> Iterator[Any]:
    """Results of ``work`` for each item, in order.

    Args:
        work: What to do; it is sent to each process once, and not at all to forked ones.
        items: Small ones, which are sent to the processes.
        jobs: Processes; 1 for this one alone.
        chunk: Items that are sent at a time.
    """
    if jobs == 1:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(jobs, initializer=_start, initargs=(work,))
    try:
        # Only this process handles an interrupt: those that start here inherit the mask.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = pool.map(_do, items, chunksize=chunk)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield from results
    finally:
        # After an interrupt, the rest is not begun.
        pool.shutdown(cancel_futures=True)


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work


def _do(item: Any) -> Any:
    return _work(item)

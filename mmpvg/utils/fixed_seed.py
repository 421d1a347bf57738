"""Draws that are alike every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fixed_numpy_seed(seed: int = 0) -> Iterator[None]:
    """Let NumPy's draws start from a seed for a while, and go on after it as if nothing had been.

    mmdet varies the colours of masks at random, so that no picture would come out twice.
    """
    import numpy as np

    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)

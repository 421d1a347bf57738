"""Run lengths of many masks at once: decoding COCO's text form, and where the masks lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def decode_counts(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Runs of all compressed masks (see ``is_encoded``), and the number of runs of each.

    As ``rleFrString`` of the COCO API: a run is written in characters of five bits, the lowest
    first, with a bit for more to come; from the fourth run of a mask on it is the difference to the
    run before the last.
    """
    if not texts:
        return np.array([], np.int64), np.array([], np.int64)
    codes = np.frombuffer(''.join(texts).encode('ascii'), np.uint8).astype(np.int64) - 48
    last = (codes & 0x20) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(codes)))
    # No run of an image needs more than 60 bits.
    place = np.minimum(np.arange(len(codes)) - np.repeat(starts, lengths), 11)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    negative = (codes[last] & 0x10) != 0
    values[negative] |= np.int64(-1) << (5 * np.minimum(lengths[negative], 12))
    ends = np.cumsum([len(text) for text in texts])
    first = np.searchsorted(starts, np.append(0, ends[:-1]))
    numbers = np.diff(np.append(first, len(starts)))
    local = np.arange(len(values)) - np.repeat(first, numbers)
    for parity in (0, 1):
        chosen = np.flatnonzero((local > 0) & (local % 2 == parity))
        mask = np.repeat(np.arange(len(numbers)), numbers)[chosen]
        sums = np.cumsum(values[chosen])
        begins = np.flatnonzero(np.diff(mask, prepend=-1))
        before = np.zeros(len(numbers), np.int64)
        before[mask[begins]] = sums[begins] - values[chosen][begins]
        values[chosen] = sums - before[mask]
    return values, numbers


def is_encoded(text: str) -> bool:
    """Whether a text can be the runs of a mask."""
    return (
        bool(text)
        and text.isascii()
        and '0' <= min(text)
        and max(text) <= 'o'
        and not (ord(text[-1]) - 48) & 0x20
    )


def extents(runs: np.ndarray, numbers: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Where the foreground of masks lies.

    Args:
        runs: Runs of all masks, of background and foreground in turn.
        numbers: (N,) number of runs of each mask.
        sides: (N,) pixels of a line: the height for COCO's runs, which go column by column.

    Returns:
        (N, 4): the first line, the first pixel in a line, one after the last line, one after the
        last pixel in a line. NaN for a mask without foreground.
    """
    result = np.full((len(numbers), 4), np.nan)
    mask = np.repeat(np.arange(len(numbers)), numbers)
    first = np.cumsum(numbers) - numbers
    ends = np.cumsum(runs)
    total = np.append(0, ends)
    ends = ends - total[first][mask]
    local = np.arange(len(runs)) - first[mask]
    shown = (local % 2 == 1) & (runs > 0)
    mask, ends, begins = mask[shown], ends[shown], (ends - runs)[shown]
    if not len(mask):
        return result
    side = sides[mask]
    line, last_line = begins // side, (ends - 1) // side
    spans = last_line > line
    low = np.where(spans, 0, begins % side)
    high = np.where(spans, side - 1, (ends - 1) % side)
    starts = np.flatnonzero(np.diff(mask, prepend=-1))
    first = [np.minimum.reduceat(values, starts) for values in (line, low)]
    last = [np.maximum.reduceat(values, starts) + 1 for values in (last_line, high)]
    result[mask[starts]] = np.stack([*first, *last], 1)
    return result

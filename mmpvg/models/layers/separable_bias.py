"""Attention with a bias of a row term and a column term, without fresh memory for all pairs."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


class Scratch(threading.local):
    """Memory for large temporary tensors, kept from call to call; each thread has its own.

    Fresh memory of hundreds of MB costs a CPU as much as the attention that reads it: the system
    hands it out page by page, and takes it back after every call.

    Attributes:
        limit: Bytes kept at most.
    """

    def __init__(self, limit: int = 256 * 2**20) -> None:
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        """Give the memory back."""
        self._memory = torch.empty(0, dtype=torch.uint8)

    def take(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give a tensor of anything, whose memory the next call may give again.

        Args:
            shape: Its shape.
            dtype: Its type. More than ``limit`` bytes are fresh memory.
        """
        size = torch.Size(shape).numel() * dtype.itemsize
        if size > self.limit:
            return torch.empty(shape, dtype=dtype)
        if len(self._memory) < size:
            self.clear()
            with torch.inference_mode(False):
                self._memory = torch.empty(size, dtype=torch.uint8)
        return self._memory[:size].view(dtype).view(shape)


SCRATCH = Scratch()


def separable_bias_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rows: Tensor,
    columns: Tensor,
    combine: Callable[..., Tensor],
    scratch: Scratch = SCRATCH,
) -> Tensor:
    """Softmax attention with a bias made of what a query gives to each row and to each column.

    The bias of query i and the key at (y, x) is ``combine(rows[i, y], columns[i, x])``.
    For inference on the CPU. Both the Gaussian (a product) and the decomposed relative position (a
    sum) are of this form.

    Args:
        q: Queries of shape (B, heads, h*w, d), of a grid without other tokens; ``k`` and ``v``
            likewise.
        k: Keys.
        v: Values.
        rows: (B or 1, heads or 1, h*w, h).
        columns: (B or 1, heads or 1, h*w, w).
        combine: ``torch.add`` or ``torch.mul``.
        scratch: Where the bias of some heads is written.

    Returns:
        (B, heads, h*w, d).
    """
    batch, biased, num_tokens, height = rows.shape
    each = batch * num_tokens**2 * q.element_size()
    step = min(max(scratch.limit // each, 1), biased)
    found = []
    for first in range(0, biased, step):
        some = slice(first, first + step)
        heads = slice(None) if biased == 1 else some
        row, column = rows[:, some, :, :, None], columns[:, some, :, None, :]
        bias = scratch.take((*row.shape[:3], height, columns.shape[3]), q.dtype)
        combine(row, column, out=bias)
        found.append(
            F.scaled_dot_product_attention(q[:, heads], k[:, heads], v[:, heads], bias.flatten(3))
        )
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)

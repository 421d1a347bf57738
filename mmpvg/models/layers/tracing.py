"""Sizes of tensors under ``torch.jit.trace``."""

from __future__ import annotations

import torch
from torch import Tensor


def spatial_size(x: Tensor) -> tuple[int, int]:
    """(H, W) of a (B, C, H, W) map.

    Under ``torch.jit.trace`` sizes are tensors. They are converted to integers, since the layout of
    windows depends on them: a trace is of one image size, and fails at another.
    """
    height, width = x.shape[2:]
    return (int(height), int(width)) if torch.jit.is_tracing() else (height, width)

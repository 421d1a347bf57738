"""Sizes while a pass is recorded by torch.jit.trace."""

from __future__ import annotations

import torch
from torch import Tensor


def spatial_size(x: Tensor) -> tuple[int, int]:
    """Give (H, W) of a (B, C, H, W) map.

    Under ``torch.jit.trace`` sizes are tensors, which cannot steer the layout of windows. They
    become plain integers here: a trace holds for one image size, and fails at another.
    """
    height, width = x.shape[2:]
    return (int(height), int(width)) if torch.jit.is_tracing() else (height, width)

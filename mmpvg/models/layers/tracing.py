"""How a pass behaves while it is recorded by torch.compile, torch.export or torch.jit.trace."""

from __future__ import annotations

import torch
from torch import Tensor


def is_recording() -> bool:
    """Whether ``torch.compile``, ``torch.export`` or ``torch.jit.trace`` records this call."""
    # torch 2.1 has is_compiling elsewhere.
    home = torch.compiler if hasattr(torch.compiler, 'is_compiling') else torch._utils
    return home.is_compiling() or torch.jit.is_tracing()


def spatial_size(x: Tensor) -> tuple[int, int]:
    """Give (H, W) of a (B, C, H, W) map.

    Under ``torch.jit.trace`` sizes are tensors, which cannot steer the layout of windows. They
    become plain integers here: a trace holds for one image size, and fails at another.
    """
    height, width = x.shape[2:]
    return (int(height), int(width)) if torch.jit.is_tracing() else (height, width)

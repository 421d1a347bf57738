"""Types of precision-sensitive computations."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Float64 for float64, else float32."""
    # Not torch.promote_types, which torch.export records as an operator.
    return dtype if dtype == torch.float64 else torch.float32


def upcast(x: Tensor) -> Tensor:
    """Convert a half-precision tensor to float32; others are returned unchanged."""
    return x.to(at_least_float32(x.dtype))

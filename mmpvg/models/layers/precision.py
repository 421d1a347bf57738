"""The type that precision-sensitive steps compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Give float32 for half types, and float32 and float64 as they are."""
    # Not torch.promote_types, which torch.export records as an operator.
    return dtype if dtype == torch.float64 else torch.float32


def upcast(x: Tensor) -> Tensor:
    """Convert a half-precision tensor to float32; float32 and float64 pass unchanged."""
    return x.to(at_least_float32(x.dtype))

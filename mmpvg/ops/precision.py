"""The precision that operators compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def working_dtype(tensor: Tensor) -> torch.dtype:
    """float64 for float64, else float32: half-precision inputs are lifted.

    torchvision's kernels take no bfloat16, and coordinates of a large image do not fit a float16.
    """
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def lifted(like: Tensor, *tensors: Tensor) -> list[Tensor]:
    """Contiguous ``tensors`` in the working precision of ``like``."""
    dtype = working_dtype(like)
    return [tensor.to(dtype).contiguous() for tensor in tensors]

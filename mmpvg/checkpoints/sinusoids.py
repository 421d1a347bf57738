"""Recognizing a fixed sinusoid in a checkpoint's position embedding."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.layers import PositionEmbedding

# What float32 angles and half-precision files change; two different sinusoids differ by about 1.
_ROUNDING = 1e-3


def find_sinusoid(table: Tensor, cls_row: Tensor | None) -> str | None:
    """Tell which fixed sinusoid a table is, up to rounding.

    Args:
        table: (1, h, w, D).
        cls_row: The class token's row, (1, 1, D), where there is one.

    Returns:
        The ``pe_type`` of ``MPVGViT``, or None for any other table.
    """
    for pe_type in ('sinusoid_1d', 'sinusoid_2d') if table.shape[3] % 4 == 0 else ():
        pe = PositionEmbedding(
            table.shape[1:3], table.shape[3], pe_type, cls_token=cls_row is not None
        )
        if same_rows(pe.table, table) and (cls_row is None or same_rows(pe.cls_row, cls_row)):
            return pe_type
    return None


def same_rows(a: Tensor, b: Tensor) -> bool:
    """Whether two fixed tables are one, up to rounding."""
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=0, atol=_ROUNDING)

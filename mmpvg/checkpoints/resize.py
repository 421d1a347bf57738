"""Position embeddings (PE) and patch kernels of a source: telling them apart and resizing them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

from ..models.layers import PositionEmbedding, resize_position_embedding

Grid = tuple[int, int]

# What float32 angles and half-precision files change; two different sinusoids differ by about 1.
_ROUNDING = 1e-3


def split_rows(
    rows: Tensor,
    extra: tuple[str, ...],
    grid: Grid | None,
    native_grid: Grid | None,
    label: str,
) -> tuple[dict[str, Tensor], Tensor]:
    """Split a flat PE into the rows of extra tokens and a table on its grid, by arithmetic alone.

    A table has a row per patch, after a row for each extra token or for none. The number of rows,
    and that patches lie on a square unless a grid is given, leave one reading; an error asks for
    the grid otherwise. Detectors drop the class token of their pre-training and keep its row
    (ViTDet, ViT-Adapter), so a source without extra tokens may have one row too many.

    Args:
        rows: PE of shape (1, M, D).
        extra: The source's extra tokens in order, out of ``cls_token``, ``dist_token`` and
            ``register_tokens`` (once per register).
        grid: The source's grid (h, w), if it is known.
        native_grid: The grid of the network to be filled, tried beside the square.
        label: The source, for messages.

    Returns:
        Extra token -> its rows, (1, n, D), empty if they have none; and the table, (1, h, w, D).
        ``cls_token`` is among them if the source has its row.

    Raises:
        ValueError: If the rows fit no grid, or fit two.
    """
    num_rows = rows.shape[1]
    # All extra tokens have rows, or the class and distillation tokens, or the first, or none.
    named = tuple(token for token in extra if token != 'register_tokens')
    readings = {}
    for tokens in (extra, named, named[:1], ()):
        num_patches = num_rows - len(tokens)
        for candidate in [grid] if grid else [_square(num_patches), native_grid]:
            if candidate and candidate[0] * candidate[1] == num_patches:
                readings[len(tokens), tuple(candidate)] = tokens
    if not readings and not extra and (side := grid or _square(num_rows - 1)):
        if side[0] * side[1] == num_rows - 1:
            readings[1, tuple(side)] = ('cls_token',)
    if len(readings) != 1:
        expected = f'grid {tuple(grid)}' if grid else 'a square grid'
        found = ' or '.join(f'{n} + {h}x{w}' for n, (h, w) in readings) or 'none'
        raise UserError(
            f'{label}: a position embedding of {num_rows} rows with the extra tokens '
            f'{list(extra)} fits {expected} in {len(readings)} ways ({found}); set its grid of '
            'patches with grid=(h, w)'
        )
    ((_, (h, w)), tokens) = next(iter(readings.items()))
    of_token = {
        name: rows[:, [i for i, token in enumerate(tokens) if token == name]]
        for name in {*extra, *tokens}
    }
    return of_token, rows[:, len(tokens) :].unflatten(1, (h, w))


def _square(num_patches: int) -> Grid | None:
    side = math.isqrt(max(num_patches, 0))
    return (side, side) if side and side * side == num_patches else None


def find_sinusoid(table: Tensor, cls_row: Tensor | None) -> str | None:
    """The ``pe_type`` of the fixed sinusoid that a table is, None for any other table.

    Args:
        table: (1, h, w, D).
        cls_row: The class token's row, (1, 1, D), if there is one.
    """
    _, h, w, dims = table.shape
    for pe_type in ('sinusoid_1d', 'sinusoid_2d') if dims % 4 == 0 else ():
        pe = PositionEmbedding((h, w), dims, pe_type, cls_token=cls_row is not None)
        if same_rows(pe.table, table) and (cls_row is None or same_rows(pe.cls_row, cls_row)):
            return pe_type
    return None


def same_rows(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two fixed tables are there and equal up to rounding."""
    if a is None or b is None or a.shape != b.shape:
        return False
    return torch.allclose(a.float(), b.float(), rtol=0, atol=_ROUNDING)


def adapt_channels(kernel: Tensor, channels: int) -> Tensor:
    """Turn a kernel for RGB into one for other channels, as timm's ``adapt_input_conv`` does.

    One channel gets the sum. More channels repeat R, G, B, scaled by 3 / channels, so that an image
    whose channels are equal gives the same output.

    Args:
        kernel: (D, 3, P, P).
        channels: The wanted number of channels.

    Returns:
        (D, channels, P, P).
    """
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    repeated = kernel.repeat(1, math.ceil(channels / 3), 1, 1)[:, :channels]
    return repeated * (3 / channels)


def resize_patch_kernel(kernel: Tensor, size: Grid) -> Tensor:
    """Resize a patch-embedding kernel by the pseudo-inverse of the resize of a patch.

    FlexiViT (CVPR 2023, eq. 5): with B the matrix that resizes a patch, here that of
    ``resize_position_embedding``, the new kernel is the least-squares solution w' of
    ``B^T w' = w``. For a larger patch ``<w', B x> = <w, x>`` holds for every patch x.

    Args:
        kernel: (D, C, P, P).
        size: The wanted sides (P', P').

    Returns:
        (D, C, P', P').
    """
    side = tuple(kernel.shape[2:])
    if side == tuple(size):
        return kernel
    num_pixels = side[0] * side[1]
    basis = torch.eye(num_pixels, dtype=torch.float32).view(1, *side, num_pixels)
    resize = resize_position_embedding(basis, size).flatten(0, 2)  # (P' * P', P * P)
    solved = torch.linalg.pinv(resize.double().T) @ kernel.flatten(2).double().transpose(1, 2)
    return solved.transpose(1, 2).unflatten(2, tuple(size)).to(kernel.dtype)

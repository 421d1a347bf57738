"""Multi-scale deformable attention (Zhu et al., Deformable DETR, ICLR 2021, eq. 3).

mmcv calls these on CUDA. On the CPU, on MPS and in bfloat16 it computes the same formula itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import lifted


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Weighted sum of bilinear samples of several maps.

    Args:
        value: (B, S, heads, d), the pixels of all maps one after the other.
        value_spatial_shapes: (L, 2), height and width of each map.
        value_level_start_index: (L,), place of each map's first pixel in S.
        sampling_locations: (B, Q, heads, L, P, 2) of x, y; 0 to 1 is the map, beyond it is 0.
        attention_weights: (B, Q, heads, L, P).
        im2col_step: Not used; images that compiled mmcv takes at a time.

    Returns:
        (B, Q, heads * d), in the type of ``value``.
    """
    tensors = lifted(value, value, sampling_locations, attention_weights)
    maps = _maps(value_spatial_shapes, value_level_start_index)
    return _attend(tensors, maps).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Add the gradients of ``ms_deform_attn_forward`` to the given tensors, by computing it again.

    Args:
        value: As of the forward pass, like those that follow.
        value_spatial_shapes: (L, 2).
        value_level_start_index: (L,).
        sampling_locations: (B, Q, heads, L, P, 2).
        attention_weights: (B, Q, heads, L, P).
        grad_output: (B, Q, heads * d).
        grad_value: Shaped as ``value``: output.
        grad_sampling_loc: Shaped as ``sampling_locations``: output.
        grad_attn_weight: Shaped as ``attention_weights``: output.
        im2col_step: Not used.
    """
    tensors = lifted(value, value, sampling_locations, attention_weights)
    maps = _maps(value_spatial_shapes, value_level_start_index)
    with torch.enable_grad():
        inputs = [tensor.detach().requires_grad_() for tensor in tensors]
        output = _attend(inputs, maps)
    grads = torch.autograd.grad(output, inputs, grad_output.to(output.dtype))
    for into, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        into += grad


def _maps(shapes: Tensor, starts: Tensor) -> list[tuple[int, int, int]]:
    # One transfer from the device, not one a number.
    return [tuple(row) for row in torch.cat([starts[:, None], shapes], 1).tolist()]


def _attend(inputs: list[Tensor], maps: list[tuple[int, int, int]]) -> Tensor:
    value, locations, weights = inputs
    batch, _, heads, channels = value.shape
    queries = locations.shape[1]
    # Heads become images of a batch: (B * heads, Q, L, P, ...).
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)
    weights = weights.transpose(1, 2).flatten(0, 1)
    output = value.new_zeros(batch * heads, channels, queries)
    for level, (start, height, width) in enumerate(maps):
        pixels = value[:, start : start + height * width].permute(0, 2, 3, 1)
        samples = F.grid_sample(
            pixels.reshape(batch * heads, channels, height, width),
            grids[:, :, level],
            mode='bilinear',
            padding_mode='zeros',
            align_corners=False,
        )
        output = output + (samples * weights[:, None, :, level]).sum(-1)
    return output.view(batch, heads * channels, queries).transpose(1, 2).contiguous()

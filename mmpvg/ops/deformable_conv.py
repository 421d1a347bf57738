"""Deformable convolution v1 (Dai et al., ICCV 2017) and v2 (Zhu et al., CVPR 2019)."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from .precision import lifted

# The names of arguments are mmcv's: k is the kernel, d the stride, W the x and H the y direction.


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Write a convolution whose samples are moved by ``offset`` into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (C', C / group, kH, kW).
        offset: (B, deformable_group * kH * kW * 2, H', W') of y, x.
        output: (B, C', H', W'): the output.
        columns: Not used; scratch memory of compiled mmcv, as ``ones``.
        ones: Not used.
        kW: Width of the kernel.
        kH: Height of the kernel.
        dW: Stride along x.
        dH: Stride along y.
        padW: Zeros at the left and the right.
        padH: Zeros above and below.
        dilationW: Distance of the kernel's columns.
        dilationH: Distance of the kernel's rows.
        group: Groups of channels.
        deformable_group: Groups of channels with offsets of their own.
        im2col_step: Not used; images that compiled mmcv takes at a time.
    """
    where = (dH, dW), (padH, padW), (dilationH, dilationW)
    _forward(output, input, weight, offset, None, None, *where)


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Add gradients of ``deform_conv_forward`` to ``gradInput`` and ``gradOffset``.

    The arguments are those of the forward pass.
    """
    where = (dH, dW), (padH, padW), (dilationH, dilationW)
    grads = _backward(gradOutput, input, weight, offset, None, *where, group, deformable_group)
    gradInput += grads[0]
    gradOffset += grads[2]


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the weight's gradient of ``deform_conv_forward`` to ``gradWeight``.

    The arguments are those of the forward pass. torchvision has one backward pass for everything,
    so this costs as much as ``deform_conv_backward_input`` once more.
    """
    where = (dH, dW), (padH, padW), (dilationH, dilationW)
    # Of the weight only shape and type count here.
    grads = _backward(gradOutput, input, gradWeight, offset, None, *where, group, deformable_group)
    gradWeight += scale * grads[1]


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Write a deformable convolution whose samples are weighted by ``mask`` into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (C', C / group, kernel_h, kernel_w).
        bias: (C',) if ``with_bias``.
        ones: Not used; scratch memory of compiled mmcv, as ``columns``.
        offset: (B, deformable_group * kernel_h * kernel_w * 2, H', W') of y, x.
        mask: (B, deformable_group * kernel_h * kernel_w, H', W').
        output: (B, C', H', W'): the output.
        columns: Not used.
        kernel_h: Height of the kernel.
        kernel_w: Width of the kernel.
        stride_h: Stride along y.
        stride_w: Stride along x.
        pad_h: Zeros above and below.
        pad_w: Zeros at the left and the right.
        dilation_h: Distance of the kernel's rows.
        dilation_w: Distance of the kernel's columns.
        group: Groups of channels.
        deformable_group: Groups of channels with offsets and masks of their own.
        with_bias: Whether ``bias`` is added.
    """
    where = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    _forward(output, input, weight, offset, mask, bias if with_bias else None, *where)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Add the gradients of ``modulated_deform_conv_forward`` to the given tensors.

    The arguments are those of the forward pass.
    """
    where = (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)
    grads = _backward(grad_output, input, weight, offset, mask, *where, group, deformable_group)
    into = [grad_input, grad_weight, grad_offset, grad_mask]
    if with_bias:
        into.append(grad_bias)
    for tensor, grad in zip(into, grads):
        tensor += grad


_Pair = tuple[int, int]


def _forward(
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    stride: _Pair,
    padding: _Pair,
    dilation: _Pair,
) -> None:
    x, weight, offset = lifted(input, input, weight, offset)
    bias, mask = (None if t is None else lifted(input, t)[0] for t in (bias, mask))
    output.copy_(
        torchvision.ops.deform_conv2d(x, offset, weight, bias, stride, padding, dilation, mask)
    )


def _backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    stride: _Pair,
    padding: _Pair,
    dilation: _Pair,
    group: int,
    deformable_group: int,
) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask and bias, by torchvision's own backward pass."""
    used = mask is not None
    # The same placeholders as torchvision's.
    if mask is None:
        mask = input.new_zeros(input.shape[0], 1)
    bias = weight.new_zeros(weight.shape[0])
    tensors = lifted(input, grad_output, input, weight, offset, mask, bias)
    grads = list(
        torch.ops.torchvision._deform_conv2d_backward(
            *tensors, *stride, *padding, *dilation, group, deformable_group, used
        )
    )
    grads[2] = grads[2] * _reaches(tensors[3], weight.shape[2:], stride, padding, dilation)
    return tuple(grads)


def _reaches(
    offset: Tensor, kernel: torch.Size, stride: _Pair, padding: _Pair, dilation: _Pair
) -> Tensor:
    """Whether samples lie less than a pixel above or left of the map: shaped as ``offset``.

    Exactly a pixel outside, where offsets of zero put the border of a padded map, the derivative is
    one of two: torchvision's is that into the map, compiled mmcv's is zero.
    """
    batch, _, *size = offset.shape
    moves = offset.view(batch, -1, *kernel, 2, *size)
    reaches = []
    for axis in (0, 1):
        tap, place = (torch.arange(n, device=offset.device) for n in (kernel[axis], size[axis]))
        start = place * stride[axis] - padding[axis] + tap[:, None] * dilation[axis]
        # Of all taps and places, (kernel, size), along the one axis.
        start = start[:, None, :, None] if axis == 0 else start[:, None]
        reaches.append(start + moves[:, :, :, :, axis] > -1)
    both = reaches[0] & reaches[1]
    return both[:, :, :, :, None].expand_as(moves).reshape(offset.shape)

"""Calls of the functions of ``mmcv._ext`` as mmcv makes them; ``ext`` is ours or a compiled one."""

import torch


def roi_align(ext, x, rois, size, scale, ratio, aligned, grad=None):
    """The output, or the gradient of ``x`` for a gradient of the output."""
    into = x.new_zeros(x.shape if grad is not None else (len(rois), x.shape[1], *size))
    call = ext.roi_align_forward if grad is None else ext.roi_align_backward
    tensors = (x, rois, into) if grad is None else (grad, rois)
    empty = x.new_zeros(0)
    rest = (empty, empty) if grad is None else (empty, empty, into)
    call(
        *tensors,
        *rest,
        aligned_height=size[0],
        aligned_width=size[1],
        spatial_scale=scale,
        sampling_ratio=ratio,
        pool_mode=1,
        aligned=aligned,
    )
    return into


def output_size(x, weight, stride, padding, dilation):
    return tuple(
        (x.shape[i + 2] + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) // stride[i]
        + 1
        for i in (0, 1)
    )


def _v1(stride, padding, dilation, groups, deform_groups, kernel, batch):
    return dict(
        kW=kernel[1],
        kH=kernel[0],
        dW=stride[1],
        dH=stride[0],
        padW=padding[1],
        padH=padding[0],
        dilationW=dilation[1],
        dilationH=dilation[0],
        group=groups,
        deformable_group=deform_groups,
        im2col_step=batch,
    )


def deform_conv(
    ext, x, offset, weight, stride, padding, dilation, groups, deform_groups, grad=None
):
    """The output, or the gradients of x, offset and weight."""
    where = _v1(stride, padding, dilation, groups, deform_groups, weight.shape[2:], len(x))
    empty = x.new_empty(0)
    if grad is None:
        size = output_size(x, weight, stride, padding, dilation)
        output = x.new_empty(len(x), len(weight), *size)
        ext.deform_conv_forward(x, weight, offset, output, empty, empty.clone(), **where)
        return output
    grads = [torch.zeros_like(tensor) for tensor in (x, offset, weight)]
    ext.deform_conv_backward_input(x, offset, grad, grads[0], grads[1], weight, empty, **where)
    ext.deform_conv_backward_parameters(
        x, offset, grad, grads[2], empty.clone(), empty.clone(), scale=1, **where
    )
    return grads


def modulated_deform_conv(
    ext, x, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups, grad=None
):
    """The output, or the gradients of x, offset, mask, weight and bias; no bias is None."""
    where = dict(
        kernel_h=weight.shape[2],
        kernel_w=weight.shape[3],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=padding[0],
        pad_w=padding[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        group=groups,
        deformable_group=deform_groups,
        with_bias=bias is not None,
    )
    bias = x.new_empty(0) if bias is None else bias
    scratch = [x.new_empty(0), x.new_empty(0)]
    if grad is None:
        size = output_size(x, weight, stride, padding, dilation)
        output = x.new_empty(len(x), len(weight), *size)
        ext.modulated_deform_conv_forward(
            x, weight, bias, scratch[0], offset, mask, output, scratch[1], **where
        )
        return output
    grads = [torch.zeros_like(tensor) for tensor in (x, offset, mask, weight, bias)]
    ext.modulated_deform_conv_backward(
        x,
        weight,
        bias,
        scratch[0],
        offset,
        mask,
        scratch[1],
        grads[0],
        grads[3],
        grads[4],
        grads[1],
        grads[2],
        grad,
        **where,
    )
    return grads


def deformable_attention(ext, value, shapes, starts, locations, weights, grad=None):
    """The output, or the gradients of value, locations and weights."""
    tensors = (value, shapes, starts, locations, weights)
    if grad is None:
        return ext.ms_deform_attn_forward(*tensors, im2col_step=len(value))
    grads = [torch.zeros_like(tensor) for tensor in (value, locations, weights)]
    ext.ms_deform_attn_backward(*tensors, grad, *grads, im2col_step=len(value))
    return grads


def softnms(ext, boxes, scores, **kwargs):
    dets = boxes.new_zeros(len(boxes), 5)
    indices = ext.softnms(boxes, scores, dets, **kwargs)
    return dets[: len(indices)], indices


def bbox_overlaps(ext, first, second, mode, aligned, offset):
    shape = (len(first),) if aligned else (len(first), len(second))
    ious = first.new_zeros(shape)
    ext.bbox_overlaps(first, second, ious, mode=mode, aligned=aligned, offset=offset)
    return ious

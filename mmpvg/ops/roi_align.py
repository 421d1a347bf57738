"""RoIAlign (He et al., Mask R-CNN, ICCV 2017): ``roi_align_forward``, ``roi_align_backward``."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from .precision import lifted
from .unsupported import raise_unsupported

_AVERAGE = 1


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the mean of bilinear samples of each bin of each RoI into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (K, 5): index of the image, x1, y1, x2, y2.
        output: (K, C, aligned_height, aligned_width): the output.
        argmax_y: Not used; of maximum pooling.
        argmax_x: Not used; of maximum pooling.
        aligned_height: Bins in a column.
        aligned_width: Bins in a row.
        spatial_scale: Pixels of ``input`` per unit of ``rois``.
        sampling_ratio: Samples along each side of a bin; 0 for as many as it has pixels.
        pool_mode: 1, the mean.
        aligned: Whether pixels' centers lie at halves; RoIs then are taken half a pixel less.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0, the maximum.
        RuntimeError: If a RoI on the CPU has a negative side and ``aligned`` is set.
    """
    _check(rois, pool_mode, aligned)
    input, rois = lifted(input, input, rois)
    output.copy_(
        torchvision.ops.roi_align(
            input, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of ``roi_align_forward``'s input to ``grad_input`` (B, C, H, W).

    Args:
        grad_output: Gradient of the output, (K, C, aligned_height, aligned_width).
        rois: As of the forward pass, like those that follow.
        argmax_y: Not used.
        argmax_x: Not used.
        grad_input: (B, C, H, W): the output.
        aligned_height: Bins in a column.
        aligned_width: Bins in a row.
        spatial_scale: Pixels of the input per unit of ``rois``.
        sampling_ratio: Samples along each side of a bin.
        pool_mode: 1, the mean.
        aligned: Whether pixels' centers lie at halves.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0, the maximum.
    """
    _check(rois, pool_mode, aligned)
    grad, rois = lifted(grad_output, grad_output, rois)
    size = (aligned_height, aligned_width)
    # torchvision's own backward pass, which needs no second forward one.
    grad_input += torch.ops.torchvision._roi_align_backward(
        grad, rois, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
    )


def _check(rois: Tensor, pool_mode: int, aligned: bool) -> None:
    if pool_mode != _AVERAGE:
        raise_unsupported("RoIAlign's pool_mode='max'")
    # Compiled mmcv checks it on the CPU alone too; elsewhere it would be waited for.
    if aligned and rois.device.type == 'cpu' and (rois[:, 3:] < rois[:, 1:3]).any():
        raise RuntimeError('RoIAlign was given a RoI whose x2 < x1 or y2 < y1')

"""The functions of mmcv's compiled module ``mmcv._ext``, those that are here and all others.

mmcv asks its module for every operator by name when ``mmcv.ops`` is imported; which ones those are
differs between its versions. Names that are not here give functions that raise when called.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from mmpvg.version import __version__

from .boxes import bbox_overlaps, nms, softnms
from .deformable_attention import ms_deform_attn_backward, ms_deform_attn_forward
from .deformable_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .roi_align import roi_align_backward, roi_align_forward
from .unsupported import unsupported

__all__ = [
    'bbox_overlaps',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'ms_deform_attn_backward',
    'ms_deform_attn_forward',
    'nms',
    'roi_align_backward',
    'roi_align_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    """What mmcv's description of the environment shows as its compiler."""
    return f'none (compiler-free operators of mmpvg {__version__})'


def get_compiling_cuda_version() -> str:
    """CUDA version that torchvision's kernels are built with, or ``not available`` without CUDA."""
    version = torch.ops.torchvision._cuda_version()
    return f'{version // 1000}.{version // 10 % 100}' if version > 0 else 'not available'


def __getattr__(name: str) -> Callable:
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return unsupported(name)

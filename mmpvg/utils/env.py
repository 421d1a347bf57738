"""Describes the environment for a bug report: ``python -m mmpvg.utils.env``."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

# Distributions that decide how mmpvg behaves; of both stacks, only what is installed is shown.
_DISTRIBUTIONS = (
    'mmpvg torch torchvision onedl-mmengine onedl-mmcv onedl-mmdetection onedl-mmsegmentation '
    'onedl-mmpretrain mmengine mmengine-lite mmcv mmcv-lite mmcv-full mmdet mmsegmentation '
    'mmpretrain timm transformers safetensors numpy scipy matplotlib opencv-python '
    'opencv-python-headless pycocotools setuptools'
).split()


def describe_environment() -> str:
    """Describe Python, packages, devices and mmcv's operators, a line each.

    Nothing here raises: what is missing or broken is what the description is for.

    Returns:
        Lines of ``name: value``.
    """
    lines = {
        'platform': platform.platform(),
        'python': sys.version.split()[0],
        **{name: _version(name) for name in _DISTRIBUTIONS},
        'devices': _devices(),
        'mmcv operators': _operators(),
        'stack': _stack(),
    }
    return '\n'.join(f'{name}: {value}' for name, value in lines.items() if value is not None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> str:
    try:
        import torch
    except Exception as error:  # a broken installation is what the report is for
        return f'torch cannot be imported ({type(error).__name__}: {error})'
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return f'{", ".join(names)}; CUDA {torch.version.cuda}'
    mps = getattr(torch.backends, 'mps', None)
    device = 'MPS' if mps and mps.is_available() else 'CPU'
    return f'{device}; torch built with CUDA {torch.version.cuda or "none"}'


def _operators() -> str:
    try:
        from mmcv import _ext  # noqa: F401
    except Exception as error:  # a broken installation too
        return f'none ({type(error).__name__}: {error})'
    from mmpvg.ops.state import describe_operators

    return describe_operators()


def _stack() -> str:
    from mmpvg.utils.stack import require_stack

    try:
        require_stack('mmengine', 'mmcv', 'mmdet', 'mmseg')
    except ImportError as error:
        return str(error)
    return 'the mm* packages fit together'


if __name__ == '__main__':
    print(describe_environment())

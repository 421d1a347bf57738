"""Heads that differ from those of mmseg, which is imported when one is built."""

from __future__ import annotations

from torch import nn

from mmpvg.registry import MODELS
from mmpvg.utils import require_stack


@MODELS.register_module(name='SegmenterMaskHead')
def build_segmenter_mask_head(**kwargs) -> nn.Module:
    """Build a ``SegmenterMaskHead``.

    Raises:
        ImportError: If mmseg is missing.
    """
    require_stack('mmseg')
    from .segmenter import SegmenterMaskHead

    return SegmenterMaskHead(**kwargs)

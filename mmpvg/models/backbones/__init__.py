"""Backbones. They need mmengine, and neither mmdet nor mmseg."""

from .compact_vit import CompactViT
from .mpvg_vit import MPVGViT
from .mpvg_vit_adapter import MPVGViTAdapter
from .plain_vit import PlainViT
from .vit_arch import VIT_ARCHS, ViTArch

__all__ = ['VIT_ARCHS', 'CompactViT', 'MPVGViT', 'MPVGViTAdapter', 'PlainViT', 'ViTArch']

"""Backbones: they wire layers to arch names, taps and init_cfg."""

from .mpvg_vit import MPVGViT
from .mpvg_vit_adapter import MPVGViTAdapter
from .vit_arch import VIT_ARCHS, ViTArch

__all__ = ['VIT_ARCHS', 'MPVGViT', 'MPVGViTAdapter', 'ViTArch']

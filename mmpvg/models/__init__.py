"""Models of mmpvg; needs torch and mmengine only."""

from .backbones import MPVGViT
from .necks import SimpleFeaturePyramid

__all__ = ['MPVGViT', 'SimpleFeaturePyramid']

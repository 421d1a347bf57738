"""Models of mmpvg; needs torch and mmengine only."""

# First of all: it checks that mmengine is there and fits.
from .. import registry as _registry  # noqa: F401
from .backbones import MPVGViT, MPVGViTAdapter
from .necks import SimpleFeaturePyramid, TokenPooling

__all__ = ['MPVGViT', 'MPVGViTAdapter', 'SimpleFeaturePyramid', 'TokenPooling']

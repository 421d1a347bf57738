"""Models of mmpvg; needs torch and mmengine only."""

# First of all: it checks that mmengine is there and fits.
from .. import registry as _registry
from .backbones import MPVGViT, MPVGViTAdapter
from .layers import LayerNorm2d
from .necks import SimpleFeaturePyramid, TokenPooling

__all__ = ['MPVGViT', 'MPVGViTAdapter', 'SimpleFeaturePyramid', 'TokenPooling']

# For norm_cfg of upstream's heads, as ViTDet's. Set its eps: mmcv would give it 1e-5.
_registry.MODELS.register_module(module=LayerNorm2d)

"""Models of mmpvg. Importing them needs torch and mmengine only."""

# First: it checks mmengine and its version.
from .. import registry as _registry
from .backbones import CompactViT, MPVGViT, MPVGViTAdapter
from .layers import LayerNorm2d
from .necks import SimpleFeaturePyramid, TokenPooling

__all__ = ['CompactViT', 'MPVGViT', 'MPVGViTAdapter', 'SimpleFeaturePyramid', 'TokenPooling']

# For norm_cfg of mmdet's heads, as in ViTDet. Set its eps: mmcv would set 1e-5.
_registry.MODELS.register_module(module=LayerNorm2d)

"""Parts of ViT-Adapter (ICLR 2023). Building them needs mmcv with operators (docs/operators.md)."""

from .interaction import ConvMlp, Extractor, Injector, Interaction
from .levels import (
    DeformableInputs,
    Level,
    flatten_maps,
    get_reference_points,
    unflatten_tokens,
)
from .spatial_prior import SpatialPrior

__all__ = [
    'ConvMlp',
    'DeformableInputs',
    'Extractor',
    'Injector',
    'Interaction',
    'Level',
    'SpatialPrior',
    'flatten_maps',
    'get_reference_points',
    'unflatten_tokens',
]

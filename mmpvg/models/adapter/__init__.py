"""Parts of ViT-Adapter (ICLR 2023). Building them needs mmcv with operators (docs/operators.md)."""

from .interaction import ConvMlp, Extractor, Injector, Interaction
from .levels import Level, SamplingPlaces, flatten_maps, reference_points, unflatten_tokens
from .spatial_prior import SpatialPrior

__all__ = [
    'ConvMlp',
    'Extractor',
    'Injector',
    'Interaction',
    'Level',
    'SamplingPlaces',
    'SpatialPrior',
    'flatten_maps',
    'reference_points',
    'unflatten_tokens',
]

"""Plain torch layers: no registry, no config, nothing from mm* packages."""

from .attention import Attention, scaled_dot_product
from .attention_bias import GaussianAttentionBias
from .block import Block, Mlp
from .drop_path import DropPath
from .layer_scale import LayerScale
from .norm import LAYER_NORM_EPS, LayerNorm2d, build_layer_norm
from .patch_embed import PatchEmbed
from .pe_delivery import PE_DELIVERIES, DeliveredPE, PEDelivery, PEDeliveryPlan
from .pooling import AveragePooling, GeneralizedMeanPooling
from .position_embedding import (
    PE_TYPES,
    PositionEmbedding,
    resize_position_embedding,
    sinusoid_1d,
    sinusoid_2d,
)
from .windows import Region, merge, partition, window_regions

__all__ = [
    'LAYER_NORM_EPS',
    'PE_DELIVERIES',
    'PE_TYPES',
    'Attention',
    'AveragePooling',
    'Block',
    'DeliveredPE',
    'DropPath',
    'GaussianAttentionBias',
    'GeneralizedMeanPooling',
    'LayerNorm2d',
    'LayerScale',
    'Mlp',
    'PEDelivery',
    'PEDeliveryPlan',
    'PatchEmbed',
    'PositionEmbedding',
    'Region',
    'build_layer_norm',
    'merge',
    'partition',
    'resize_position_embedding',
    'scaled_dot_product',
    'sinusoid_1d',
    'sinusoid_2d',
    'window_regions',
]

"""Layers in plain torch, without registry, configs or OpenMMLab packages."""

from .attention import Attention, scaled_dot_product
from .attention_bias import GaussianAttentionBias
from .block import Block, CompactBlock, Mlp
from .drop_path import DropPath
from .flex import gaussian_flex_attention, has_flex_attention
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
from .relative_position import (
    RELATIVE_POSITIONS,
    DecomposedRelativePosition,
    RelativePositionMlp,
)
from .windows import Region, window_partition, window_regions, window_unpartition

__all__ = [
    'LAYER_NORM_EPS',
    'PE_DELIVERIES',
    'PE_TYPES',
    'RELATIVE_POSITIONS',
    'Attention',
    'AveragePooling',
    'Block',
    'CompactBlock',
    'DecomposedRelativePosition',
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
    'RelativePositionMlp',
    'build_layer_norm',
    'gaussian_flex_attention',
    'has_flex_attention',
    'resize_position_embedding',
    'scaled_dot_product',
    'sinusoid_1d',
    'sinusoid_2d',
    'window_partition',
    'window_regions',
    'window_unpartition',
]

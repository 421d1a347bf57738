"""Necks."""

from .simple_feature_pyramid import SimpleFeaturePyramid
from .token_pooling import TokenPooling

__all__ = ['SimpleFeaturePyramid', 'TokenPooling']

"""Segmenter's mask transformer, initialized as in its authors' code."""

from __future__ import annotations

from mmseg.models.decode_heads import SegmenterMaskTransformerHead
from torch import nn


class SegmenterMaskHead(SegmenterMaskTransformerHead):
    """mmseg's head, initialized as in Segmenter's code (ICCV 2021, ``segm/model/decoder.py``).

    The projections of patches and classes start from a normal of standard deviation
    ``embed_dims ** -0.5`` (mmseg: 0.02), and queries, keys and values from a truncated normal of
    0.02 (mmseg: Xavier).
    """

    def init_weights(self) -> None:
        """Initialize all weights."""
        super().init_weights()
        for layer in self.layers:
            nn.init.trunc_normal_(layer.attn.attn.in_proj_weight, std=self.init_std)
        for projection in (self.patch_proj, self.classes_proj):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

"""ViT-Lite of Compact Transformers, with layer-wise position embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mmpvg.registry import MODELS
from mmpvg.utils.errors import UserError

from ..layers import Attention, CompactBlock
from .mpvg_vit import MPVGViT

VIT_LITE_7 = dict(embed_dims=256, num_layers=7, num_heads=4, mlp_ratio=2.0)


@MODELS.register_module()
class CompactViT(MPVGViT):
    """ViT-Lite of Compact Transformers (arXiv 2104.05704), by default ViT-Lite-7/4 for CIFAR.

    It differs from ``MPVGViT`` in what Compact Transformers' code does otherwise:

    - The residual stream itself is normalized between attention and MLP (``CompactBlock``).
    - Queries, keys and values have no bias, and the epsilon of every LayerNorm is 1e-5.
    - The position embedding starts with a standard deviation of 0.2, the class token with zeros,
      and the patch embedding from He's normal distribution.

    The code of LaPE and MPVG for this network is not public. That their PE enters after the
    LayerNorm before the attention, and not at the one between attention and MLP, is derived from
    the papers' equations; that the PE LayerNorms have the same epsilon is [open].

    Args:
        arch: Size of the network, see ``PlainViT``.
        img_size: Native image size in pixels, see ``PlainViT``.
        patch_size: Side of a patch in pixels.
        eps: Epsilon of every LayerNorm.
        pe_std: Standard deviation of the truncated normal that a learnable PE starts from.
        **kwargs: Further arguments of ``MPVGViT``, but for ``qkv_bias`` and
            ``layer_scale_init_value``. The published networks have ``attn_drop_rate=0.1`` and
            ``drop_path_rate=0.1``.

    Raises:
        ValueError: If an argument does not fit the others; the message names it and the fix.

    Examples:
        >>> import torch
        >>> from mmpvg.models import CompactViT
        >>> vit = CompactViT(with_cls_token=True, out_type='cls_token', pe_delivery='lape')
        >>> [tuple(token.shape) for token in vit(torch.rand(2, 3, 32, 32))]
        [(2, 256)]
    """

    def __init__(
        self,
        arch: str | Mapping = VIT_LITE_7,
        img_size: int | Sequence[int] = 32,
        patch_size: int | Sequence[int] = 4,
        *,
        eps: float = 1e-5,
        pe_std: float = 0.2,
        **kwargs: Any,
    ) -> None:
        for argument in ('qkv_bias', 'layer_scale_init_value'):
            if kwargs.get(argument) not in (None, False):
                raise UserError(
                    f'CompactViT has no {argument} (got {kwargs[argument]}), as Compact '
                    'Transformers; leave it out, or use mmpvg.MPVGViT'
                )
        kwargs['qkv_bias'] = False
        super().__init__(arch, img_size, patch_size=patch_size, eps=eps, pe_std=pe_std, **kwargs)
        nn.init.kaiming_normal_(self.patch_embed.proj.weight)
        if self.cls_token is not None:
            nn.init.zeros_(self.cls_token)

    def _build_block(
        self,
        attention: Attention,
        drop_path_rate: float,
        layer_scale_init_value: float | None,
        eps: float,
    ) -> nn.Module:
        return CompactBlock(self.embed_dims, attention, self.arch.mlp_ratio, drop_path_rate, eps)

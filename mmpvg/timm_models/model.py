"""Image classifier with timm's interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmpvg.utils.errors import UserError, check_choice

from ..models.backbones import PlainViT
from ..models.layers import AveragePooling, GeneralizedMeanPooling

GLOBAL_POOLS = ('token', 'avg', 'gem', 'ggem')


class TimmMPVGViT(PlainViT):
    """Image classifier with timm's interface; its weights are those of ``MPVGViT`` and a head.

    Args:
        arch: Size of the network, see ``PlainViT``.
        num_classes: Number of classes; 0 for no head.
        global_pool: ``token`` for the class token, ``avg`` for the mean of the patches, ``gem`` or
            ``ggem`` for their generalized mean, with one exponent or one per head. By default
            ``token`` with a class token, else ``avg``.
        img_size: Native image size in pixels.
        in_chans: Channels of the image.
        drop_rate: Dropout before the head.
        **kwargs: Further arguments of ``PlainViT``.

    Raises:
        ValueError: If ``global_pool`` is unknown, or ``token`` without a class token.
    """

    extra_modules = ('head', 'pool')

    def __init__(
        self,
        arch: str | Mapping = 'deit-tiny',
        num_classes: int = 1000,
        global_pool: str | None = None,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arch, img_size, in_channels=in_chans, num_blocks=None, last_norm=True, **kwargs
        )
        self.num_features = self.head_hidden_size = self.embed_dims
        self.num_prefix_tokens = self.num_extra_tokens
        self.head_drop = nn.Dropout(drop_rate)
        if global_pool is None:
            global_pool = 'token' if self.cls_token is not None else 'avg'
        self._set_pool(global_pool)
        self._set_head(num_classes)

    def _set_pool(self, global_pool: str) -> None:
        check_choice('global_pool', global_pool, GLOBAL_POOLS)
        if global_pool == 'token' and self.cls_token is None:
            raise UserError("global_pool='token' needs a class token; use 'avg', 'gem' or 'ggem'")
        self.global_pool = global_pool
        if global_pool in ('gem', 'ggem'):
            groups = self.arch.num_heads if global_pool == 'ggem' else 1
            self.pool: nn.Module = GeneralizedMeanPooling(self.embed_dims, groups)
        else:
            self.pool = AveragePooling() if global_pool == 'avg' else nn.Identity()

    def _set_head(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes:
            self.head = nn.Linear(self.embed_dims, num_classes)
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Tokens after the last LayerNorm, (B, R + [1 +] N, D): registers, class token, patches."""
        (tokens,), _ = self._run_blocks(x, [len(self.blocks) - 1])
        return tokens

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool tokens and classify: (B, classes), or (B, D) with ``pre_logits``."""
        if self.global_pool == 'token':
            x = x[:, self.num_prefix_tokens - 1]
        else:
            x = self.pool(x[:, self.num_prefix_tokens :])
        x = self.head_drop(x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images of shape (B, C, H, W), any H and W of at least a patch."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head, and the pooling if ``global_pool`` is given."""
        if global_pool is not None:
            self._set_pool(global_pool)
        self._set_head(num_classes)
        self.to(self.patch_embed.proj.weight.device)

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Checkpoint the blocks while training."""
        self.with_cp = enable

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of parameters without weight decay, beside vectors, which timm excludes itself."""
        names = super().no_weight_decay()
        if self.position_embedding is None:
            return names
        table = self.position_embedding.no_weight_decay()
        return names | {f'position_embedding.{name}' for name in table}

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Depths for timm's layer-wise decay, as those of ``get_layer_depth``."""
        return dict(
            stem=r'^(?:cls_token|register_tokens|position_embedding|patch_embed)',
            # Parameters that match neither have the last depth.
            blocks=r'^(?:blocks|pe_delivery\.block_norms)\.(\d+)',
        )

"""MPVGViT with a head, in the manners of timm's models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from ..models import MPVGViT
from ..models.layers import AveragePooling, GeneralizedMeanPooling

GLOBAL_POOLS = ('token', 'avg', 'gem', 'ggem')


class TimmMPVGViT(MPVGViT):
    """An image classifier whose weights are those of ``MPVGViT`` and ``head``.

    Args:
        num_classes: Classes; 0 for no head.
        global_pool: ``token`` for the class token, ``avg`` for the mean of the patches, ``gem`` or
            ``ggem`` for their generalized mean, with one exponent or one a head. By default the
            class token where there is one, else the mean.
        img_size: Native image size, in pixels.
        in_chans: Channels of the image.
        drop_rate: Dropout before the head.
        **kwargs: Further arguments of MPVGViT.

    Raises:
        ValueError: If ``global_pool`` is unknown, or asks for a class token that is not there; or
            if ``out_indices``, ``out_type`` or ``final_norm`` is set, which a classifier leaves
            alone.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        global_pool: str | None = None,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if dense := sorted({'out_indices', 'out_type', 'final_norm'} & set(kwargs)):
            raise UserError(
                f'{", ".join(dense)} would change what the head is given; use '
                'mmpvg.models.MPVGViT, which reads the same weights'
            )
        super().__init__(img_size=img_size, in_channels=in_chans, **kwargs)
        self.num_features = self.head_hidden_size = self.embed_dims
        self.num_prefix_tokens = sum(token.shape[1] for token in self._extra_tokens())
        self.head_drop = nn.Dropout(drop_rate)
        if global_pool is None:
            global_pool = 'token' if self.cls_token is not None else 'avg'
        self._set_pool(global_pool)
        self._set_head(num_classes)

    def _set_pool(self, global_pool: str) -> None:
        if global_pool not in GLOBAL_POOLS:
            raise UserError(
                f'unknown global_pool {global_pool!r}; choose one of {", ".join(GLOBAL_POOLS)}'
            )
        if global_pool == 'token' and self.cls_token is None:
            raise UserError("global_pool='token' needs a class token; use 'avg', 'gem' or 'ggem'")
        self.global_pool = global_pool
        if global_pool in ('gem', 'ggem'):
            groups = self.arch.num_heads if global_pool == 'ggem' else 1
            self.pool = GeneralizedMeanPooling(self.embed_dims, groups)
        else:
            self.pool = AveragePooling() if global_pool == 'avg' else nn.Identity()

    def _set_head(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.head = nn.Linear(self.embed_dims, num_classes) if num_classes else nn.Identity()
        if num_classes:
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Tokens after the last norm, (B, prefix + N, D); the class token is the last prefix."""
        (tokens,), _ = self.forward_tokens(x)
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
        """Make a new head, and another pooling if one is named."""
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
        """Names of what carries no weight decay, beside vectors, which timm spares itself."""
        if self.position_embedding is None:
            return super().no_weight_decay()
        table = {f'position_embedding.{n}' for n in self.position_embedding.no_weight_decay()}
        return super().no_weight_decay() | table

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Depths for timm's layer-wise decay; a PE norm has its block's."""
        return dict(
            stem=r'^(?:cls_token|register_tokens|position_embedding|patch_embed)',
            # What matches neither, the last norm and the head, is the last depth, as with
            # get_layer_depth.
            blocks=r'^(?:blocks|pe_delivery\.block_norms)\.(\d+)',
        )

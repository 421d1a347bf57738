"""From a feature map to one vector, as a neck of a classifier or a retriever."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mmpvg.registry import MODELS
from mmpvg.utils.errors import UserError

from ..backbones.vit_arch import ViTArch
from ..layers import AveragePooling, GeneralizedMeanPooling

POOLINGS = ('average', 'gem', 'ggem')


@MODELS.register_module()
class TokenPooling(BaseModule):
    """Average, GeM or GGeM pooling over the patches of each map (GGeM: arXiv 2212.04114).

    It pools what the backbone gives, after the last norm. A class token may take part in the
    attention (``with_cls_token=True``), but is not in the maps and so not pooled.

    Args:
        pooling: ``average``, ``gem`` (one exponent) or ``ggem`` (one a channel group).
        in_channels: Channels of the maps, or the arch of the backbone (a name or a dict). Needed
            by ``gem`` and ``ggem``.
        groups: Channel groups of ``ggem``: a number, or ``heads`` for one a head, which needs an
            arch.
        p: Exponent that ``gem`` and ``ggem`` start from.
        learnable: Whether exponents are trained.
        eps: Least value of a token's channel; smaller ones count as this.
        init_cfg: Initialization of mmengine.

    Raises:
        ValueError: If an argument does not fit the others; the message names it and the fix.

    Examples:
        >>> import torch
        >>> from mmpvg.models import TokenPooling
        >>> neck = TokenPooling('ggem', in_channels='deit-tiny', groups='heads')
        >>> [tuple(vector.shape) for vector in neck((torch.rand(2, 192, 7, 9),))]
        [(2, 192)]
    """

    def __init__(
        self,
        pooling: str = 'average',
        in_channels: int | str | Mapping | None = None,
        groups: int | str = 'heads',
        p: float = 3.0,
        learnable: bool = True,
        eps: float = 1e-6,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if pooling not in POOLINGS:
            raise UserError(f'unknown pooling {pooling!r}; choose one of {", ".join(POOLINGS)}')
        if pooling == 'average':
            self.pool = AveragePooling()
            return
        if in_channels is None:
            raise UserError(f'pooling={pooling!r} needs in_channels: the channels or the arch')
        arch = None if isinstance(in_channels, int) else ViTArch.parse(in_channels)
        channels = in_channels if arch is None else arch.embed_dims
        if pooling == 'gem':
            groups = 1
        elif groups == 'heads':
            if arch is None:
                raise UserError(
                    f"groups='heads' needs to know the heads: set in_channels to the arch instead "
                    f'of {in_channels}, or groups to their number'
                )
            groups = arch.num_heads
        self.pool = GeneralizedMeanPooling(channels, groups, p, learnable, eps)

    def forward(self, maps: Sequence[Tensor] | Tensor) -> tuple[Tensor, ...]:
        """Pool each map of shape (B, C, H, W) to (B, C).

        GeM and GGeM compute half types in float32, under autocast too. The result has the type of
        the map.
        """
        if isinstance(maps, Tensor):
            maps = (maps,)
        return tuple(self.pool(feature.flatten(2).transpose(1, 2)) for feature in maps)

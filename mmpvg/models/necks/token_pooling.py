"""Pooling neck of classifiers and retrievers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpvg.registry import MODELS
from mmpvg.utils.errors import UserError, check_choice

from ..backbones.vit_arch import ViTArch
from ..layers import AveragePooling, GeneralizedMeanPooling, build_layer_norm

POOLINGS = ('average', 'gem', 'ggem')


@MODELS.register_module()
class TokenPooling(BaseModule):
    """Average, GeM or GGeM pooling over the patches of each map (GGeM: arXiv 2212.04114).

    Whether GGeM pools before or after the last LayerNorm is [open]: it is after it, or before it
    with ``final_norm=False`` in the backbone and ``norm=True`` here.

    Args:
        pooling: ``average``, ``gem`` (one exponent) or ``ggem`` (one per channel group).
        in_channels: Channels of the maps, or the arch of the backbone (a name or a dict). Needed
            by ``gem``, ``ggem`` and ``norm``.
        groups: Channel groups of ``ggem``: a number, or ``heads`` for one per attention head,
            which needs an arch.
        p: Initial exponent; what GGeM starts from is [open].
        learnable: Whether exponents are trained.
        eps: Smaller values are clamped to it; GGeM's is [open].
        norm: Whether a LayerNorm follows the pooling, as in timm's ``vit_relpos_*`` models, which
            GAB builds on; these have none on the tokens (``final_norm=False`` in the backbone).
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
        norm: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice('pooling', pooling, POOLINGS)
        self.pool: nn.Module = AveragePooling()
        self.norm: nn.Module = nn.Identity()
        if pooling == 'average' and not norm:
            return
        if in_channels is None:
            what = 'norm=True' if norm else f'pooling={pooling!r}'
            raise UserError(f'{what} needs in_channels: the channels or the arch')
        channels, heads = in_channels, None
        if not isinstance(channels, int):
            arch = ViTArch.parse(channels)
            channels, heads = arch.embed_dims, arch.num_heads
        if norm:
            self.norm = build_layer_norm(channels)
        if pooling == 'average':
            return
        if pooling == 'gem':
            groups = 1
        if isinstance(groups, str):
            if groups != 'heads' or heads is None:
                raise UserError(
                    f"groups={groups!r} must be a number, or 'heads' with an arch as in_channels, "
                    f'which gives their number (got {in_channels})'
                )
            groups = heads
        self.pool = GeneralizedMeanPooling(channels, groups, p, learnable=learnable, eps=eps)

    def forward(self, maps: Sequence[Tensor] | Tensor) -> tuple[Tensor, ...]:
        """Pool each map of shape (B, C, H, W) to (B, C).

        GeM and GGeM compute half types in float32, also under autocast. The result has the type of
        the map.
        """
        if isinstance(maps, Tensor):
            maps = (maps,)
        return tuple(self.norm(self.pool(feature.flatten(2).transpose(1, 2))) for feature in maps)

"""ViT-Adapter backbone: a feature pyramid of strides 4 to 32 from a plain ViT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpvg.registry import MODELS
from mmpvg.utils import require_stack
from mmpvg.utils.errors import UserError, check_choice

from ..adapter import (
    DeformableInputs,
    Extractor,
    Injector,
    Interaction,
    Level,
    SpatialPrior,
    flatten_maps,
    unflatten_tokens,
)
from ..adapter.spatial_prior import build_batch_norm, init_convolution
from ..layers.tracing import spatial_size
from .plain_vit import PlainViT
from .vit_arch import with_deit_names

PATCH_SIZE = 16
STRIDES = (4, 8, 16, 32)
VIT_MAPS = ('each', 'last')

# As published: heads of the deformable attention, and channels of its values over D.
ADAPTER_ARCHS = with_deit_names(
    {
        'vit-tiny': (6, 1.0),
        'vit-small': (6, 1.0),
        'vit-base': (12, 0.5),
        'vit-large': (16, 0.5),
    }
)


@MODELS.register_module()
class MPVGViTAdapter(PlainViT):
    """ViT-Adapter (ICLR 2023) backbone on a plain ViT with layer-wise position embedding.

    A convolutional pyramid, the spatial prior, runs beside the ViT. The blocks are split into four
    groups. Before each, an injector adds features of the pyramid to the ViT's patches; after it, an
    extractor adds the patches to the pyramid; after the last group, two more do. The pyramid, with
    a feature map of the ViT added to every level, is the output.

    As published, there is no last LayerNorm. MPVG's PE for it, ``LN_p,last(pos)``, is added to the
    output of the last block instead; so the last extractors read it and it is part of the coarsest
    map ([open] in the paper). Class token and registers, if any, take part in the attention of the
    blocks alone.

    Images of any size are taken. Under autocast, deformable attention samples in float32.

    Needs mmcv with operators for deformable attention, compiled or compiler-free
    (docs/operators.md); it runs on CPUs too.

    Args:
        arch: Size of the network, see ``PlainViT``.
        img_size: Native image size in pixels, see ``PlainViT``.
        interaction_indexes: First and last block of each of the four groups; quarters of the depth
            by default, as published: [[0, 2], [3, 5], [6, 8], [9, 11]] of 12.
        deform_num_heads: Heads of the deformable attention. By default as published for the named
            archs (6, 6, 12, 16 for tiny, small, base, large), the arch's own heads for others.
        deform_ratio: Channels of its values over D. By default as published (1, 1, 0.5, 0.5), 1
            for others.
        num_points: Points that a head samples in a map.
        conv_channels: Channels of the spatial prior's stem.
        cffn_ratio: Hidden channels of an extractor's MLP over D.
        vit_maps: Which map of the ViT is added to a level of the pyramid: ``each`` adds the output
            of each of the four groups to the level of its order, as ViT-Adapter's segmentation
            code; ``last`` adds the output of the last group to all four levels, as its detection
            code. Both resize it bilinearly to the level.
        norm_cfg: Norm of the convolutions and the outputs. SyncBN as published: on one GPU it is
            BatchNorm, and tools/train.py replaces it by BatchNorm where there are no GPUs.
        drop_path_rate: Stochastic depth rate of the last block, and of every extractor.
        layer_scale_init_value: Initial value of the blocks' LayerScale, 1.0 as in ViT-Adapter's
            code; None for no LayerScale.
        **kwargs: Further arguments of ``PlainViT``: ``pe_delivery``, ``pe_type``, ``window_size``,
            ``gaussian_bias`` and so on. ``patch_size`` must be 16. ``frozen_stages`` freezes parts
            of the ViT, never of the adapter.

    Raises:
        ValueError: If an argument does not fit the others; the message names it and the fix.
        ImportError: If mmcv is missing or has no operators.

    Examples:
        >>> import torch
        >>> from mmpvg.models import MPVGViTAdapter
        >>> backbone = MPVGViTAdapter('deit-tiny', norm_cfg=dict(type='BN'))
        >>> [tuple(m.shape) for m in backbone(torch.rand(2, 3, 64, 96))]
        [(2, 192, 16, 24), (2, 192, 8, 12), (2, 192, 4, 6), (2, 192, 2, 3)]
    """

    extra_modules = ('spatial_prior', 'level_embed', 'interactions', 'up', 'output_norms')

    def __init__(
        self,
        arch: str | Mapping = 'deit-tiny',
        img_size: int | Sequence[int] = 224,
        *,
        interaction_indexes: Sequence[Sequence[int]] | None = None,
        deform_num_heads: int | None = None,
        deform_ratio: float | None = None,
        num_points: int = 4,
        conv_channels: int = 64,
        cffn_ratio: float = 0.25,
        vit_maps: str = 'each',
        norm_cfg: Mapping | None = None,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = 1.0,
        **kwargs: Any,
    ) -> None:
        require_stack('mmcv')
        check_choice('vit_maps', vit_maps, VIT_MAPS)
        super().__init__(
            arch,
            img_size,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=layer_scale_init_value,
            num_blocks=None,
            last_norm=False,
            **kwargs,
        )
        if self.patch_embed.patch_size != PATCH_SIZE:
            raise UserError(
                f'MPVGViTAdapter needs patch_size={PATCH_SIZE}, whose grid is a level of its '
                f'pyramid, got {self.patch_embed.patch_size}; PretrainedViT resizes the patches of '
                'a checkpoint'
            )
        self.vit_maps = vit_maps
        dims, depth = self.embed_dims, self.arch.num_layers
        self.interaction_indexes = _parse_indexes(interaction_indexes, depth)
        published = ADAPTER_ARCHS.get(arch) if isinstance(arch, str) else None
        heads, ratio = published or (self.arch.num_heads, 1.0)
        heads = heads if deform_num_heads is None else deform_num_heads
        ratio = ratio if deform_ratio is None else deform_ratio
        if dims % heads or int(dims * ratio) % heads:
            raise UserError(
                f'deform_num_heads={heads} must divide {dims} channels and '
                f'{int(dims * ratio)} values (deform_ratio={ratio})'
            )
        norm_cfg = dict(norm_cfg or dict(type='SyncBN', requires_grad=True))

        in_channels = self.patch_embed.proj.in_channels
        self.spatial_prior = SpatialPrior(in_channels, conv_channels, dims, norm_cfg)
        # One vector per level of strides 8, 16 and 32; standard normal as in its code.
        self.level_embed = nn.Parameter(torch.randn(len(STRIDES) - 1, dims))

        def extractor() -> Extractor:
            return Extractor(dims, heads, num_points, ratio, cffn_ratio, drop_path_rate)

        self.interactions = nn.ModuleList(
            Interaction(
                Injector(dims, heads, num_points, ratio),
                [extractor() for _ in range(3 if last == depth - 1 else 1)],
            )
            for _, last in self.interaction_indexes
        )
        self.up = nn.ConvTranspose2d(dims, dims, kernel_size=2, stride=2)
        init_convolution(self.up)
        self.output_norms = nn.ModuleList(build_batch_norm(norm_cfg, dims) for _ in STRIDES)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            x: Images of shape (B, C, H, W), any H and W of at least a patch.

        Returns:
            Contiguous maps of shape (B, D, ceil(H / s), ceil(W / s)) for strides s of 4 to 32.
        """
        finest, *maps = self.spatial_prior(x)
        levels = [Level(spatial_size(m), s) for m, s in zip(maps, STRIDES[1:])]
        c = flatten_maps([m + e[:, None, None] for m, e in zip(maps, self.level_embed)])

        x, grid, delivered = self._embed(x)
        vit_level = [Level(grid, PATCH_SIZE)]
        injected = DeformableInputs.build(vit_level, levels, x)
        extracted = DeformableInputs.build(levels, vit_level, x)
        extra, tokens = self.num_extra_tokens, []
        for interaction, (first, last) in zip(self.interactions, self.interaction_indexes):
            assert isinstance(interaction, Interaction)
            patches = self._run(interaction.injector, x[:, extra:], c, injected)
            x = torch.cat([x[:, :extra], patches], dim=1) if extra else patches
            for index in range(first, last + 1):
                x = self._run(self.blocks[index], x, delivered.blocks[index], grid)
            if last == len(self.blocks) - 1 and delivered.last_norm is not None:
                x = x + delivered.last_norm
            for extractor in interaction.extractors:
                c = self._run(extractor, c, x[:, extra:], extracted, levels)
            tokens.append(x)

        vit_maps = [
            self._feature_map(x, grid) for x in (tokens if self.vit_maps == 'each' else tokens[-1:])
        ]
        vit_maps *= len(STRIDES) // len(vit_maps)
        maps = unflatten_tokens(c, levels)
        # Twice the rounded-up size of stride 8 may reach over that of stride 4.
        finest = finest + _crop(self.up(maps[0]), finest)
        outputs = [
            m + _crop(_rescale(vit_map, PATCH_SIZE / stride), m)
            for m, vit_map, stride in zip((finest, *maps), vit_maps, STRIDES)
        ]
        # In a batch of one, a map made of tokens has no unique memory format, and the backward pass
        # of torch's BatchNorm misreads it on CPUs.
        return tuple(norm(m.contiguous()) for norm, m in zip(self.output_norms, outputs))

    def no_weight_decay(self) -> set[str]:
        """Own parameters without weight decay; its modules name theirs."""
        return {*super().no_weight_decay(), 'level_embed'}

    def takes_last_pe(self) -> bool:
        """True: it is added to the output of the last block."""
        return True


def _rescale(x: Tensor, scale: float) -> Tensor:
    """Rescale a map bilinearly, rounding its size up; a half-size map takes the mean of 2x2."""
    if scale == 1:
        return x
    if scale < 1:
        # What bilinear interpolation at a half is, and at an odd edge too.
        return F.avg_pool2d(x, round(1 / scale), ceil_mode=True, count_include_pad=False)
    return F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)


def _crop(x: Tensor, like: Tensor) -> Tensor:
    height, width = spatial_size(like)
    return x[:, :, :height, :width]


def _parse_indexes(indexes: Sequence[Sequence[int]] | None, depth: int) -> list[tuple[int, int]]:
    """First and last block of the four groups."""
    if indexes is None:
        ends = [quarter * depth // 4 - 1 for quarter in (1, 2, 3, 4)]
        indexes = [(before + 1, end) for before, end in zip([-1, *ends], ends)]
    groups = [(group[0], group[1]) for group in indexes if len(group) == 2 and group[0] <= group[1]]
    covered = [block for first, last in groups for block in range(first, last + 1)]
    if not len(indexes) == len(groups) == len(STRIDES) or covered != list(range(depth)):
        raise UserError(
            f'interaction_indexes={[list(group) for group in indexes]} must be {len(STRIDES)} '
            f'groups [first, last] that hold all {depth} blocks in order; leave it out for quarters'
        )
    return groups

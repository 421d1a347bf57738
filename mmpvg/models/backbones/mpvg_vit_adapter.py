"""ViT-Adapter on MPVGViT: a pyramid for detection and segmentation from a plain ViT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpvg.registry import MODELS
from mmpvg.utils import require_stack
from mmpvg.utils.errors import UserError

from ..adapter import (
    Extractor,
    Injector,
    Interaction,
    Level,
    SamplingPlaces,
    SpatialPrior,
    flatten_maps,
    unflatten_tokens,
)
from ..adapter.spatial_prior import build_batch_norm, init_convolution
from ..layers.patch_embed import square_side
from ..layers.tracing import spatial_size
from ..layers.windows import Grid
from .mpvg_vit import MPVGViT
from .vit_arch import with_deit_names

PATCH_SIZE = 16
STRIDES = (4, 8, 16, 32)
VIT_MAPS = ('each', 'last')

# Heads of the deformable attention and channels of its values over D, as published.
ADAPTER_ARCHS = with_deit_names(
    {
        'vit-tiny': (6, 1.0),
        'vit-small': (6, 1.0),
        'vit-base': (12, 0.5),
        'vit-large': (16, 0.5),
    }
)


@MODELS.register_module()
class MPVGViTAdapter(MPVGViT):
    """ViT-Adapter (ICLR 2023) on ``MPVGViT``'s own blocks and PE delivery.

    A convolutional pyramid, the spatial prior, runs beside the ViT. The blocks are cut into four
    runs. Before each, an injector lets the ViT's tokens read the pyramid; after it, an extractor
    lets the pyramid read the tokens; after the last, two more do. The pyramid, with a map of the
    ViT added to every level, is the output.

    As published, there is no last norm. The PE that MPVG delivers to it, ``LN_p,last(pos)``, is
    added to the final ViT feature instead, the output of the last block; so the last extractors
    read it and it is part of the coarsest map ([open] in the paper).

    Images of any size are taken. The deformable attention samples in float32 under autocast.

    Needs mmcv with operators for the deformable attention, compiled or compiler-free
    (docs/operators.md); it runs on CPUs too.

    Args:
        arch: As ``MPVGViT``'s.
        interaction_indexes: First and last block of each of the four runs; quarters of the depth
            by default, as published: [[0, 2], [3, 5], [6, 8], [9, 11]] of 12.
        deform_num_heads: Heads of the deformable attention. By default as published for the named
            archs (6, 6, 12, 16 for tiny, small, base, large), the arch's own heads for others.
        deform_ratio: Channels of its values over D. By default as published (1, 1, 0.5, 0.5), 1
            for others.
        num_points: Points that a head samples in a map.
        conv_channels: Channels of the spatial prior's stem.
        cffn_ratio: Hidden channels of an extractor's MLP over D.
        vit_maps: Which map of the ViT is added to a level of the pyramid: ``each`` adds the output
            of each of the four runs to the level of its order, as ViT-Adapter's segmentation code;
            ``last`` adds the output of the last run to all four levels, as its detection code.
            Both resize it bilinearly to the level.
        norm_cfg: Norm of the convolutions and the outputs. SyncBN as published: on one GPU it is
            BatchNorm, and tools/train.py puts BatchNorm in its place where there are no GPUs.
        drop_path_rate: Stochastic depth of the blocks, as ``MPVGViT``'s, and of every
            extractor.
        layer_scale: Initial value of the blocks' LayerScale, 1.0 as in ViT-Adapter's code; None
            for no LayerScale.
        with_cp: Whether blocks, injectors and extractors are checkpointed while training.
        init_cfg: Initialization of mmengine, for instance
            ``dict(type='mmpvg.PretrainedViT', checkpoint=...)``, which fills the ViT and leaves the
            adapter as it starts.
        **kwargs: Further arguments of ``MPVGViT``: ``img_size``, ``pe_delivery``, ``pe_type``,
            ``window_size``, ``global_blocks``, ``gaussian_bias`` and so on; ``frozen_stages``
            freezes parts of the ViT, never of the adapter. Not
            ``patch_size`` (16), ``with_cls_token``, ``num_registers``, ``out_indices``,
            ``out_type`` and ``final_norm``, which the adapter decides.

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

    beside_the_vit = ('spatial_prior', 'level_embed', 'interactions', 'up', 'output_norms')

    def __init__(
        self,
        arch: str | Mapping = 'deit-tiny',
        interaction_indexes: Sequence[Sequence[int]] | None = None,
        deform_num_heads: int | None = None,
        deform_ratio: float | None = None,
        num_points: int = 4,
        conv_channels: int = 64,
        cffn_ratio: float = 0.25,
        vit_maps: str = 'each',
        norm_cfg: Mapping | None = None,
        drop_path_rate: float = 0.0,
        layer_scale: float | None = 1.0,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
        **kwargs: Any,
    ) -> None:
        require_stack('mmcv')
        _check_decided(kwargs)
        if vit_maps not in VIT_MAPS:
            raise UserError(f'unknown vit_maps {vit_maps!r}; choose one of {", ".join(VIT_MAPS)}')
        super().__init__(
            arch,
            drop_path_rate=drop_path_rate,
            layer_scale=layer_scale,
            with_cp=with_cp,
            final_norm=False,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.vit_maps = vit_maps
        dims, depth = self.embed_dims, self.arch.num_layers
        self.runs = _runs(interaction_indexes, depth)
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
        # One vector a level, for strides 8, 16 and 32; drawn from a standard normal as in its code.
        self.level_embed = nn.Parameter(torch.randn(len(STRIDES) - 1, dims))

        def extractor() -> Extractor:
            return Extractor(dims, heads, num_points, ratio, cffn_ratio, drop_path_rate)

        last = len(self.runs) - 1
        self.interactions = nn.ModuleList(
            Interaction(
                Injector(dims, heads, num_points, ratio),
                [extractor() for _ in range(3 if index == last else 1)],
            )
            for index in range(len(self.runs))
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
        in_pyramid = SamplingPlaces.of(vit_level, levels, x)
        in_vit = SamplingPlaces.of(levels, vit_level, x)
        run_outputs = []
        for interaction, (first, last) in zip(self.interactions, self.runs):
            x = self._run(interaction.injector, x, c, in_pyramid)
            for index in range(first, last + 1):
                x = self._run(self.blocks[index], x, delivered.blocks[index], grid)
            if last == len(self.blocks) - 1 and delivered.last_norm is not None:
                x = x + delivered.last_norm
            for extractor in interaction.extractors:
                c = self._run(extractor, c, x, in_vit, levels)
            run_outputs.append(x)

        if self.vit_maps == 'last':
            vit_maps = [self._output(x, grid)] * len(STRIDES)
        else:
            vit_maps = [self._output(tokens, grid) for tokens in run_outputs]
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

    def forward_tokens(self, x: Tensor) -> tuple[list[Tensor], Grid]:
        """Not offered: the ViT's tokens without the adapter would be another network's.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError('MPVGViTAdapter gives maps, not tokens; call it as it is')

    def no_weight_decay(self) -> set[str]:
        """Own parameters that carry no weight decay, beside those every module names itself."""
        return {*super().no_weight_decay(), 'level_embed'}

    def takes_last_pe(self) -> bool:
        """True: it is added to the final ViT feature."""
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


def _check_decided(kwargs: Mapping) -> None:
    """Refuse arguments of MPVGViT that the adapter decides."""
    if square_side(kwargs.get('patch_size', PATCH_SIZE)) != PATCH_SIZE:
        raise UserError(
            f'MPVGViTAdapter needs patch_size={PATCH_SIZE}, whose grid is a level of its pyramid, '
            f'got {kwargs["patch_size"]}; PretrainedViT resizes the patches of a checkpoint'
        )
    decided = {'out_indices', 'out_type', 'final_norm'} & set(kwargs)
    tokens = {name for name in ('with_cls_token', 'num_registers') if kwargs.get(name)}
    if decided or tokens:
        raise UserError(
            f'MPVGViTAdapter takes no {", ".join(sorted(decided | tokens))}: it gives four maps of '
            'strides 4 to 32, has no last norm, and its tokens are patches; leave that out'
        )


def _runs(indexes: Sequence[Sequence[int]] | None, depth: int) -> list[tuple[int, int]]:
    """First and last block of the four runs."""
    if indexes is None:
        ends = [quarter * depth // 4 - 1 for quarter in (1, 2, 3, 4)]
        indexes = [(before + 1, end) for before, end in zip([-1, *ends], ends)]
    runs = [tuple(run) for run in indexes]
    covered = [block for run in runs if len(run) == 2 for block in range(run[0], run[1] + 1)]
    whole = all(len(run) == 2 and run[0] <= run[1] for run in runs)
    if len(runs) != len(STRIDES) or not whole or covered != list(range(depth)):
        raise UserError(
            f'interaction_indexes={[list(run) for run in runs]} must be {len(STRIDES)} runs '
            f'[first, last] that hold all {depth} blocks in order; leave it out for quarters'
        )
    return runs

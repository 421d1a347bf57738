"""Simple feature pyramid of ViTDet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmpvg.registry import MODELS
from mmpvg.utils.errors import UserError

from ..backbones.vit_arch import ViTArch
from ..layers import LayerNorm2d


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Simple feature pyramid from the last map of a plain ViT (ViTDet, ECCV 2022).

    Every level is computed from the same map: by transposed convolutions for finer levels, by max
    pooling for coarser ones, then by a 1x1 and a 3x3 convolution, each followed by a LayerNorm.
    Pooling rounds sizes up.

    Args:
        in_channels: Channels D of the backbone, or its arch, a name or a dict.
        out_channels: Channels of every level.
        scales: Size of each level over that of the map, out of 4, 2, 1 and 0.5; for a patch size of
            16, strides 4 to 32.
        num_outs: Number of levels; those beyond ``scales`` are the last one subsampled by 2.
        init_cfg: Initialization of mmengine.

    Raises:
        ValueError: If a scale is unknown, D is not divisible as it needs, or there are fewer
            outputs than scales.
    """

    def __init__(
        self,
        in_channels: int | str | Mapping,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        dims = (
            in_channels if isinstance(in_channels, int) else ViTArch.parse(in_channels).embed_dims
        )
        if num_outs < len(scales):
            raise UserError(
                f'num_outs={num_outs} is less than the {len(scales)} scales {tuple(scales)}; '
                'raise it or leave scales out'
            )
        self.in_channels = dims
        self.num_outs = num_outs
        self.levels = nn.ModuleList(_level(dims, out_channels, scale) for scale in scales)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: Map of shape (B, D, h, w), or a tuple, whose last map is used.

        Returns:
            ``num_outs`` maps of shape (B, out_channels, scale * h, scale * w), finest first.

        Raises:
            ValueError: If the map has other channels than the neck was built for.
        """
        x = inputs if isinstance(inputs, Tensor) else inputs[-1]
        if x.shape[1] != self.in_channels:
            raise UserError(
                f'the backbone gives maps of {x.shape[1]} channels, but this neck was built for '
                f'{self.in_channels}; set neck.in_channels={x.shape[1]}, or to the arch of the '
                'backbone'
            )
        maps = [level(x) for level in self.levels]
        while len(maps) < self.num_outs:
            maps.append(F.max_pool2d(maps[-1], kernel_size=1, stride=2))
        return tuple(maps)


def _level(dims: int, out_channels: int, scale: float) -> nn.Sequential:
    need = {4: 4, 2: 2, 1: 1, 0.5: 1}.get(scale)
    if need is None:
        raise UserError(f'scale {scale} is not offered; use scales out of 4, 2, 1 and 0.5')
    if dims % need:
        raise UserError(f'{dims} channels cannot be divided by {need}, as scale {scale} needs')
    if scale == 4:
        resample = [
            nn.ConvTranspose2d(dims, dims // 2, kernel_size=2, stride=2),
            LayerNorm2d(dims // 2),
            nn.GELU(),
            nn.ConvTranspose2d(dims // 2, dims // 4, kernel_size=2, stride=2),
        ]
    elif scale == 2:
        resample = [nn.ConvTranspose2d(dims, dims // 2, kernel_size=2, stride=2)]
    elif scale == 1:
        resample = []
    else:
        resample = [nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True)]
    return nn.Sequential(
        *resample,
        nn.Conv2d(dims // need, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )

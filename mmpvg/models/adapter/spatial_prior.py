"""ViT-Adapter's spatial prior module."""

from __future__ import annotations

import math

from torch import Tensor, nn


class SpatialPrior(nn.Module):
    """Small convolutional feature pyramid beside the ViT (ViT-Adapter, section 3.3).

    A stem of three 3x3 convolutions and max pooling, three more convolutions of stride 2, and a
    1x1 convolution to the width of the ViT for every map. Sizes are rounded up, so that the map of
    stride 16 has the grid of the ViT at any image size.

    Args:
        in_channels: Channels of the image.
        channels: Channels of the stem; the stages have 2, 4 and 4 times as many.
        dims: Channels D of the ViT.
        norm_cfg: Norm of mmcv, for instance ``dict(type='SyncBN')``.
    """

    def __init__(self, in_channels: int, channels: int, dims: int, norm_cfg: dict) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv(in_channels, channels, 2, norm_cfg),
            *_conv(channels, channels, 1, norm_cfg),
            *_conv(channels, channels, 1, norm_cfg),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        widths = [channels, 2 * channels, 4 * channels, 4 * channels]
        self.stages = nn.ModuleList(
            nn.Sequential(*_conv(before, after, 2, norm_cfg))
            for before, after in zip(widths, widths[1:])
        )
        self.projections = nn.ModuleList(nn.Conv2d(width, dims, 1) for width in widths)
        self.apply(init_convolution)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the maps of strides 4, 8, 16 and 32.

        Args:
            image: (B, C, H, W).

        Returns:
            (B, D, ceil(H / s), ceil(W / s)) for every stride s.
        """
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return [projection(m) for projection, m in zip(self.projections, maps)]


def build_batch_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Build a norm over (B, channels, h, w) from a config of mmcv."""
    from mmcv.cnn import build_norm_layer

    return build_norm_layer(norm_cfg, channels)[1]


def init_convolution(module: nn.Module) -> None:
    """Initialize a convolution from a normal of variance 2 / fan-out, as ViT-Adapter."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _conv(before: int, after: int, stride: int, norm_cfg: dict) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False),
        build_batch_norm(norm_cfg, after),
        nn.ReLU(inplace=True),
    )

"""The networks that benchmarks compare: ours in every delivery, and what people run today."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmpvg.checkpoints import Weights, backbone_arguments, fit, recognise
from mmpvg.models import MPVGViT
from mmpvg.models.backbones.vit_arch import ViTArch

IMG_SIZE = 224


@dataclass(frozen=True)
class BenchmarkModel:
    """A network of a benchmark.

    Attributes:
        build: Makes it for an arch, with random weights.
        what: In a few words.
        same_as_vit: Whether it is a plain ViT, which at the native size gives what ours gives with
            its weights and the ``default`` delivery.
    """

    build: Callable[[str], nn.Module]
    what: str
    same_as_vit: bool = False


def _ours(**arguments: Any) -> Callable[[str], nn.Module]:
    return lambda arch: MPVGViT(arch, img_size=IMG_SIZE, **arguments)


def _timm(arch: str, **arguments: Any) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    size = ViTArch.parse(arch)
    return VisionTransformer(
        img_size=IMG_SIZE,
        embed_dim=size.embed_dims,
        depth=size.num_layers,
        num_heads=size.num_heads,
        class_token=False,
        global_pool='',
        num_classes=0,
        dynamic_img_size=True,
        **arguments,
    )


def _mmpretrain(arch: str) -> nn.Module:
    from mmpretrain.models import VisionTransformer

    size = ViTArch.parse(arch)
    return VisionTransformer(
        dict(
            embed_dims=size.embed_dims,
            num_layers=size.num_layers,
            num_heads=size.num_heads,
            feedforward_channels=int(size.embed_dims * size.mlp_ratio),
        ),
        img_size=IMG_SIZE,
        with_cls_token=False,
        out_type='featmap',
        frozen_stages=-1,
    )


def _mmseg(arch: str) -> nn.Module:
    from mmseg.models.backbones import VisionTransformer

    size = ViTArch.parse(arch)
    return VisionTransformer(
        img_size=(IMG_SIZE, IMG_SIZE),
        embed_dims=size.embed_dims,
        num_layers=size.num_layers,
        num_heads=size.num_heads,
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
    )


def _swin(arch: str) -> nn.Module:
    from mmdet.models.backbones import SwinTransformer

    return SwinTransformer(embed_dims=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))


def _adapter(arch: str) -> nn.Module:
    from mmpvg.models import MPVGViTAdapter

    return MPVGViTAdapter(arch, img_size=IMG_SIZE)


BENCHMARK_MODELS: Mapping[str, BenchmarkModel] = {
    'timm': BenchmarkModel(_timm, "timm's ViT", True),
    'mmpretrain': BenchmarkModel(_mmpretrain, "mmpretrain's ViT", True),
    'mmseg': BenchmarkModel(_mmseg, "mmseg's ViT, with its class token", True),
    'swin-t': BenchmarkModel(_swin, "mmdet's Swin-T, whatever the arch"),
    **{
        delivery: BenchmarkModel(_ours(pe_delivery=delivery), f'ours, {delivery}')
        for delivery in ('default', 'lape', 'pvg', 'mpvg')
    },
    'mpvg-windows': BenchmarkModel(_ours(window_size=14), 'ours, 14x14 windows, 4 global blocks'),
    'mpvg-windows-alone': BenchmarkModel(
        _ours(window_size=14, global_blocks=()), 'ours, 14x14 windows in all blocks'
    ),
    'mpvg-windows-relative': BenchmarkModel(
        _ours(window_size=14, relative_position='decomposed'), 'ours, ViTDet with its rel. position'
    ),
    'mpvg-gab': BenchmarkModel(_ours(gaussian_bias='head'), 'ours, Gaussian bias in all blocks'),
    'mpvg-windows-gab': BenchmarkModel(
        _ours(window_size=14, gaussian_bias=dict(per='head', blocks='window')),
        'ours, Gaussian bias in windows',
    ),
    'mpvg-checkpointed': BenchmarkModel(_ours(with_cp=True), 'ours, activation checkpointing'),
    'adapter': BenchmarkModel(_adapter, 'ours, ViT-Adapter'),
}


def difference_to_ours(name: str, arch: str) -> float:
    """Hold a plain ViT of others against ours with its weights, on a random image.

    Args:
        name: One of ``BENCHMARK_MODELS`` that is ``same_as_vit``.
        arch: The arch.

    Returns:
        The largest difference of the last block's normalized output, over its largest value.
    """
    torch.manual_seed(0)
    theirs = BENCHMARK_MODELS[name].build(arch)
    # mmseg's returns nothing.
    theirs.eval()
    for parameter in theirs.parameters():
        # Norms and biases too, or a permutation of them would not show.
        nn.init.normal_(parameter, std=0.05)
    source = recognise(Weights(theirs.state_dict()), name)
    ours = MPVGViT(**{**backbone_arguments(source), 'arch': arch, 'pe_delivery': 'default'}).eval()
    ours.load_state_dict(fit(source, ours)[0])
    image = torch.randn(1, 3, IMG_SIZE, IMG_SIZE)
    with torch.no_grad():
        (wanted,) = ours(image)
        found = theirs(image)
    found = found if isinstance(found, Tensor) else found[-1]
    if found.ndim == 3:
        found = found.transpose(1, 2).unflatten(2, wanted.shape[2:])
    return float((found - wanted).abs().max() / wanted.abs().max())

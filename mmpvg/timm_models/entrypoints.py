"""Model entry points in timm's registry, one per delivery and size."""

from __future__ import annotations

from collections.abc import Callable

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from mmpvg.utils.errors import UserError

from .model import TimmMPVGViT

SIZES = {'tiny': 'deit-tiny', 'small': 'deit-small', 'base': 'deit-base'}
# As published: default and LaPE with a class token, PVG and MPVG without.
WITH_CLS_TOKEN = {'default': True, 'lape': True, 'pvg': False, 'mpvg': False}

# Data settings of DeiT. No weights are published.
_DATA = dict(
    url='',
    num_classes=1000,
    input_size=(3, 224, 224),
    pool_size=None,
    crop_pct=0.9,
    interpolation='bicubic',
    mean=IMAGENET_DEFAULT_MEAN,
    std=IMAGENET_DEFAULT_STD,
    first_conv='patch_embed.proj',
    classifier='head',
    license='apache-2.0',
)
default_cfgs = generate_default_cfgs(
    {
        f'{delivery}_vit_{size}_patch16_224.untrained': _DATA
        for delivery in WITH_CLS_TOKEN
        for size in SIZES
    }
)


def _entrypoint(delivery: str, size: str) -> Callable[..., TimmMPVGViT]:
    name = f'{delivery}_vit_{size}_patch16_224'

    def create(pretrained: bool = False, **kwargs) -> TimmMPVGViT:
        if pretrained:
            raise UserError(
                f'no pre-trained weights of {name} are published; train it, or load a file with '
                'checkpoint_path='
            )
        if kwargs.get('features_only'):
            raise UserError(
                f'{name} has no features_only: use mmpvg.models.MPVGViT, which returns feature '
                'maps and reads the same weights'
            )
        arguments = dict(
            arch=SIZES[size], pe_delivery=delivery, with_cls_token=WITH_CLS_TOKEN[delivery]
        )
        return build_model_with_cfg(TimmMPVGViT, name, False, **{**arguments, **kwargs})

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f'ViT-{size.capitalize()}/16 with {delivery} delivery of the PE, at 224x224.'
    return register_model(create)


for _delivery in WITH_CLS_TOKEN:
    for _size in SIZES:
        _entrypoint(_delivery, _size)

"""Finds the backbone of a config and of a model, and sets what it starts from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from torch import nn

from mmpvg.models.backbones import PlainViT
from mmpvg.utils.errors import UserError


def backbone_configs(model: ConfigDict) -> Iterator[ConfigDict]:
    """Yield ``backbone`` of a model's config, or the parts of a retriever's ``image_encoder``."""
    for part in (model.get('backbone'), model.get('image_encoder')):
        for module in part if isinstance(part, (list, tuple)) else [part]:
            if isinstance(module, dict):
                yield module


def start_backbone(cfg: Config, checkpoint: str) -> None:
    """Start the backbone of a config from a plain ViT (``--backbone``); other settings stay.

    Args:
        cfg: The config of the run, changed in place.
        checkpoint: As ``mmpvg.checkpoints.PretrainedViT`` takes it.

    Raises:
        UserError: If the config has no ``PlainViT``.
    """
    for backbone in backbone_configs(cfg.model):
        type_ = backbone.get('type')
        found = MODELS.get(type_) if isinstance(type_, str) else type_
        if inspect.isclass(found) and issubclass(found, PlainViT):
            break
    else:
        raise UserError(
            f'--backbone fills an mmpvg.MPVGViT, which the model ({cfg.model.type}) does not have; '
            'set model.backbone.type to one of ours'
        )
    start = backbone.get('init_cfg')
    kept = start if isinstance(start, dict) and start.get('type') == 'mmpvg.PretrainedViT' else {}
    backbone.init_cfg = {**kept, 'type': 'mmpvg.PretrainedViT', 'checkpoint': checkpoint}


def find_vit(model: nn.Module) -> PlainViT:
    """Find the ViT, plain or with an adapter, that a model is or holds.

    Raises:
        UserError: If there is none.
    """
    for module in model.modules():
        if isinstance(module, PlainViT):
            return module
    backbone = type(getattr(model, 'backbone', model)).__name__
    raise UserError(
        f'{type(model).__name__} has the backbone {backbone}; this needs mmpvg.MPVGViT or '
        'mmpvg.MPVGViTAdapter'
    )


def find_layered_backbone(model: nn.Module) -> tuple[str, nn.Module | None]:
    """Find the part of a model that gives the depths of its parameters.

    It is the outermost module with ``get_layer_depth(name, prefix)``, below wrappers such as
    mmpretrain's ``LoRAModel``. mmpretrain's classifiers have a method of that name without a
    prefix, which calls that of their backbone.

    Returns:
        The prefix of its parameters' names in the model, for instance ``backbone.``, and the
        module; an empty string and None if there is none.

    Raises:
        UserError: If there are several.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(outer) for outer in found)
        # Of its class: LoRAModel passes on attributes that it does not have itself.
        if not inside and _takes_prefix(getattr(type(module), 'get_layer_depth', None)):
            found[f'{name}.' if name else ''] = module
    if len(found) > 1:
        raise UserError(
            f'{type(model).__name__} has several backbones that give depths, at '
            f'{", ".join(found)}; layer-wise decay needs one'
        )
    return next(iter(found.items()), ('', None))


def _takes_prefix(method: Callable | None) -> bool:
    return method is not None and 'prefix' in inspect.signature(method).parameters

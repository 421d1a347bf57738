"""``--backbone CHECKPOINT``: what the backbone of a config starts from."""

from __future__ import annotations

import inspect

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from mmpvg.models.backbones import PlainViT
from mmpvg.utils.errors import UserError


def start_backbone(cfg: Config, checkpoint: str) -> None:
    """Let the backbone of a config start from a plain ViT; other settings of its start stay.

    Args:
        cfg: The config of the run, changed in place.
        checkpoint: As ``mmpvg.checkpoints.PretrainedViT`` takes it.

    Raises:
        ValueError: If the config has no backbone of ours.
    """
    backbone = find_backbone(cfg.model)
    if backbone is None:
        raise UserError(
            f'--backbone fills an mmpvg.MPVGViT, which the model ({cfg.model.type}) does not have; '
            'set model.backbone.type to one of ours'
        )
    start = backbone.get('init_cfg')
    kept = start if isinstance(start, dict) and start.get('type') == 'mmpvg.PretrainedViT' else {}
    backbone.init_cfg = {**kept, 'type': 'mmpvg.PretrainedViT', 'checkpoint': checkpoint}


def find_backbone(model: ConfigDict) -> ConfigDict | None:
    """The config of our backbone in that of a model, or None.

    It is ``backbone``, or a part of a retriever's ``image_encoder``, if that is a
    ``PlainViT``.
    """
    encoder = model.get('image_encoder')
    for part in (model.get('backbone'), *(encoder if isinstance(encoder, list) else [encoder])):
        if isinstance(part, dict) and _is_ours(part.get('type')):
            return part
    return None


def _is_ours(type_: str | type | None) -> bool:
    found = MODELS.get(type_) if isinstance(type_, str) else type_
    return inspect.isclass(found) and issubclass(found, PlainViT)

"""Parameter groups by depth and weight decay, which the model itself gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmpvg.engine.config.backbone import find_layered_backbone
from mmpvg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpvg.utils.errors import UserError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay, and no weight decay on what should not shrink.

    A parameter at depth d of n, from ``get_layer_depth`` of the backbone, is trained with
    ``lr * layer_decay_rate ** (n - 1 - d)``; parameters outside the backbone (necks, heads) have
    the full learning rate. The backbone may lie anywhere in the model.

    Vectors and scalars (biases, norms) and what a module names in ``no_weight_decay()`` (the
    position embedding, the class token) have no weight decay.

    ``custom_keys`` of ``paramwise_cfg`` are those of mmengine's default constructor: the longest
    key in the full name of a parameter holds. Its ``lr_mult`` and ``decay_mult`` (1 by default)
    multiply the learning rate and weight decay that the parameter has otherwise. mmengine's
    ``decay_mult`` replaces its other rules.

    In a config::

        optim_wrapper = dict(
            constructor='mmpvg.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(
                layer_decay_rate=0.95, custom_keys=dict(decode_head=dict(lr_mult=10.0))),
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05))

    Args:
        optim_wrapper_cfg: As mmengine's.
        paramwise_cfg: ``layer_decay_rate``, 1 (no decay) by default, and ``custom_keys``, none by
            default. Nothing else.

    Raises:
        ValueError: If ``paramwise_cfg`` holds another key, the rate is outside (0, 1], a rate
            below 1 is set for a model with no or several backbones that give depths, or a custom
            key matches no parameter or holds anything but the two factors.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        settings = dict(paramwise_cfg or {})
        self.custom_keys = settings.pop('custom_keys', None) or {}
        # Never empty: mmengine skips add_params without paramwise settings.
        super().__init__(optim_wrapper_cfg, {'layer_decay_rate': 1.0, **settings})
        if unknown := sorted(set(self.paramwise_cfg) - {'layer_decay_rate'}):
            raise UserError(
                f'{type(self).__name__} takes layer_decay_rate and custom_keys in paramwise_cfg, '
                f'got {", ".join(unknown)}; use the DefaultOptimWrapperConstructor for those'
            )
        self.rate = self.paramwise_cfg['layer_decay_rate']
        if not 0 < self.rate <= 1:
            raise UserError(f'layer_decay_rate must be in (0, 1], got {self.rate}')
        _check_custom_keys(self.custom_keys, self.base_wd)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Fill the list of groups: one per depth and decay, in the order of the model.

        Args:
            params: The list.
            module: The whole model, or a backbone alone.
            **kwargs: Unused; upstream recurses with them.

        Raises:
            ValueError: If there is no backbone for the decay, no parameter to train, or no
                parameter for a custom key.
        """
        undecayed = set(_undecayed(module))
        # Without decay no depth matters, so a student and a teacher may both give theirs.
        prefix, backbone = find_layered_backbone(module) if self.rate < 1 else ('', None)
        if backbone is None and self.rate < 1:
            raise UserError(
                f'layer_decay_rate={self.rate} needs a backbone with get_layer_depth(); '
                f'{type(module).__name__} has none. Use mmpvg.MPVGViT, or layer_decay_rate=1'
            )
        groups: dict[tuple[int, bool, str | None], dict] = {}
        # mmengine's order: the longest first, of one length by alphabet.
        keys = sorted(self.custom_keys, key=lambda key: (-len(key), key))
        for name, param in module.named_parameters():
            if not param.requires_grad:
                continue
            height = 0
            if self.rate < 1 and name.startswith(prefix):
                depth, num_depths = backbone.get_layer_depth(name, prefix)
                height = num_depths - 1 - depth
            kind = (height, name not in undecayed, next((key for key in keys if key in name), None))
            if kind not in groups:
                groups[kind] = self._new_group(*kind)
            groups[kind]['params'].append(param)
            groups[kind]['param_names'].append(name)
        if not groups:
            raise UserError(f'{type(module).__name__} has no parameter to train: all are frozen')
        names = [name for name, _ in module.named_parameters()]
        if idle := [key for key in keys if not any(key in name for name in names)]:
            raise UserError(
                f'custom_keys {", ".join(map(repr, idle))} match no parameter of '
                f'{type(module).__name__}; a key is part of a name such as {names[-1]!r}'
            )
        params.extend(groups.values())
        rates = [group['lr'] for group in params]
        print_log(
            f'{sum(len(group["params"]) for group in params)} parameters in {len(params)} groups, '
            f'lr {min(rates):.3g} to {max(rates):.3g}',
            logger='current',
        )

    def _new_group(self, height: int, decays: bool, key: str | None) -> dict:
        factors = self.custom_keys[key] if key is not None else {}
        scale = self.rate**height * factors.get('lr_mult', 1.0)
        group = dict(params=[], param_names=[], lr=self.base_lr * scale, lr_scale=scale)
        if not decays:
            group['weight_decay'] = 0.0
        elif self.base_wd is not None:
            group['weight_decay'] = self.base_wd * factors.get('decay_mult', 1.0)
        return group


def _check_custom_keys(custom_keys: Any, weight_decay: float | None) -> None:
    """Check the factors of the custom keys, which mmengine's constructor does not."""
    if not isinstance(custom_keys, Mapping):
        raise UserError(f'custom_keys must be a dict such as dict(head=...), got {custom_keys!r}')
    for key, factors in custom_keys.items():
        if (
            not key
            or not isinstance(factors, Mapping)
            or not set(factors) <= {'lr_mult', 'decay_mult'}
            or not all(isinstance(f, (int, float)) and f >= 0 for f in factors.values())
        ):
            raise UserError(
                f'custom_keys[{key!r}] must be a dict of lr_mult and decay_mult, each a number of '
                f'at least 0, got {factors!r}'
            )
        if 'decay_mult' in factors and weight_decay is None:
            raise UserError(
                f'custom_keys[{key!r}] has a decay_mult, but the optimizer has no weight_decay to '
                'multiply; set weight_decay in optimizer'
            )


def _undecayed(model: nn.Module) -> Iterator[str]:
    """Names of the parameters without weight decay."""
    for prefix, module in model.named_modules():
        named = module.no_weight_decay() if hasattr(module, 'no_weight_decay') else ()
        for name, param in module.named_parameters(recurse=False):
            if param.ndim <= 1 or name in named:
                yield f'{prefix}.{name}' if prefix else name

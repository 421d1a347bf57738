"""Parameter groups by depth and weight decay, as the model itself tells them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmpvg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpvg.utils.errors import UserError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay, and no weight decay on what should not shrink.

    A backbone with ``get_layer_depth`` tells the depth of its parameters, so none is guessed from
    its name; whatever lies outside the backbone (necks, heads) has the full learning rate. A
    parameter at depth d of n is trained with ``lr * layer_decay_rate ** (n - 1 - d)``. The backbone
    may lie anywhere: in a detector, a segmenter, a classifier, or a retriever's ``image_encoder``.

    No weight decay goes to vectors and scalars (biases, norms) and to what a module names in
    ``no_weight_decay()`` (the position embedding, the class token).

    In a config::

        optim_wrapper = dict(
            constructor='mmpvg.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.95),
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05))

    Args:
        optim_wrapper_cfg: As mmengine's.
        paramwise_cfg: ``layer_decay_rate``, 1 (no decay) by default. Nothing else.

    Raises:
        ValueError: If ``paramwise_cfg`` holds another key, the rate is outside (0, 1], or a rate
            below 1 is asked of a model with no or several backbones that tell depths.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # Never empty: mmengine skips add_params without paramwise settings.
        super().__init__(optim_wrapper_cfg, {'layer_decay_rate': 1.0, **(paramwise_cfg or {})})
        if unknown := sorted(set(self.paramwise_cfg) - {'layer_decay_rate'}):
            raise UserError(
                f'{type(self).__name__} takes layer_decay_rate alone in paramwise_cfg, '
                f'got {", ".join(unknown)}; use the DefaultOptimWrapperConstructor for those'
            )
        self.rate = self.paramwise_cfg['layer_decay_rate']
        if not 0 < self.rate <= 1:
            raise UserError(f'layer_decay_rate must be in (0, 1], got {self.rate}')

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Fill the list of groups: one per depth and decay, in the order of the model.

        Args:
            params: The list.
            module: The whole model, or a backbone alone.
            **kwargs: Unused; upstream recurses with them.

        Raises:
            ValueError: If there is no backbone for the decay, or no parameter to train.
        """
        undecayed = set(_undecayed(module))
        # Without decay no depth matters, so a student and a teacher may both tell theirs.
        prefix, backbone = find_backbone(module) if self.rate < 1 else ('', None)
        if backbone is None and self.rate < 1:
            raise UserError(
                f'layer_decay_rate={self.rate} needs a backbone with get_layer_depth(); '
                f'{type(module).__name__} has none. Use mmpvg.MPVGViT, or layer_decay_rate=1'
            )
        groups: dict[tuple[int, bool], dict] = {}
        for name, param in module.named_parameters():
            if not param.requires_grad:
                continue
            height = 0
            if self.rate < 1 and name.startswith(prefix):
                depth, num_depths = backbone.get_layer_depth(name, prefix)
                height = num_depths - 1 - depth
            decays = name not in undecayed
            if (height, decays) not in groups:
                groups[height, decays] = self._new_group(height, decays)
            groups[height, decays]['params'].append(param)
            groups[height, decays]['param_names'].append(name)
        if not groups:
            raise UserError(f'{type(module).__name__} has no parameter to train: all are frozen')
        params.extend(groups.values())
        print_log(
            f'{sum(len(group["params"]) for group in params)} parameters in {len(params)} groups, '
            f'lr {min(group["lr"] for group in params):.3g} to {self.base_lr:.3g}',
            logger='current',
        )

    def _new_group(self, height: int, decays: bool) -> dict:
        scale = self.rate**height
        group = dict(params=[], param_names=[], lr=self.base_lr * scale, lr_scale=scale)
        if not decays:
            group['weight_decay'] = 0.0
        elif self.base_wd is not None:
            group['weight_decay'] = self.base_wd
        return group


def _undecayed(model: nn.Module) -> Iterator[str]:
    """Names of the parameters without weight decay."""
    for prefix, module in model.named_modules():
        named = module.no_weight_decay() if hasattr(module, 'no_weight_decay') else ()
        for name, param in module.named_parameters(recurse=False):
            if param.ndim <= 1 or name in named:
                yield f'{prefix}.{name}' if prefix else name


def find_backbone(model: nn.Module) -> tuple[str, nn.Module | None]:
    """Find the part of a model that tells the depths of its parameters.

    It is the outermost module with ``get_layer_depth(name, prefix)``, below wrappers such as
    mmpretrain's ``LoRAModel``. The method of that name of mmpretrain's classifiers, which calls
    that of their backbone, takes no prefix and is not meant.

    Returns:
        What stands before its parameters' names in the model, for instance ``backbone.``, and the
        module; an empty string and None if there is none.

    Raises:
        ValueError: If there are several.
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(outer) for outer in found)
        # Of its class: a wrapper (mmpretrain's LoRAModel) passes on what it does not have itself.
        if not inside and _takes_prefix(getattr(type(module), 'get_layer_depth', None)):
            found[f'{name}.' if name else ''] = module
    if len(found) > 1:
        raise UserError(
            f'{type(model).__name__} has several backbones that tell depths, at '
            f'{", ".join(found)}; layer-wise decay needs one'
        )
    return next(iter(found.items()), ('', None))


def _takes_prefix(method: Callable | None) -> bool:
    return method is not None and 'prefix' in inspect.signature(method).parameters

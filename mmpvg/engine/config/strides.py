"""Checks that heads, necks and image sizes fit the strides of the backbone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from mmpvg.datasets.unwrap import first_config
from mmpvg.models.backbones import PlainViT
from mmpvg.utils.errors import UserError

# A multiple of 64 and of 56, the coarsest strides of patches of 16 and of 14 pixels.
_PROBE_SIZE = 448
# Attributes of heads that hold anchors or points.
_GENERATORS = ('prior_generator', 'square_anchor_generator', 'approx_anchor_generator')
# The stride of a map of fewer cells cannot be measured, for sizes are rounded.
_FEWEST_CELLS = 8
_TOLERANCE = 0.06


def check_strides(model: nn.Module) -> None:
    """Compare the strides of a detector's maps with those that its heads assume.

    With other strides a head reads features of other places than its boxes, without an error: with
    ``patch_size=14`` and strides of 4 to 64 a box at x = 920 is pooled at x = 805. Strides are
    measured on an empty image, and compared with every prior generator (anchors, points) and every
    ``featmap_strides`` (RoI extractors).

    Args:
        model: Of mmdet, unwrapped; a model without such heads passes.

    Raises:
        ValueError: If a head assumes other strides; the message has both and the fix.
    """
    for prefix, detector in _detectors(model):
        assumed = list(_assumed_strides(detector))
        if not assumed:
            continue
        try:
            maps = _probe(detector)
        except Exception as error:  # of detectors whose features need more than an image
            print_log(
                f'mmpvg: the strides of {prefix or "the model"} were not checked, since it gives '
                f'no features of an empty image ({type(error).__name__}: {error})',
                logger='current',
                level=logging.WARNING,
            )
            continue
        measured = [[_PROBE_SIZE / side for side in m.shape[:-3:-1]] for m in maps]
        for name, strides in assumed:
            # RoI extractors may read the finer maps alone, anchors and points lie in all of them.
            few = len(strides) < len(maps) and not name.endswith('featmap_strides')
            if few or len(strides) > len(maps) or any(map(_differs, strides, measured)):
                raise UserError(
                    f'model.{prefix}{name} assumes strides {_shown(strides)}, but the maps have '
                    f'strides {_shown(measured)}: its boxes would lie elsewhere in the image than '
                    f'the features it reads; set {name.split(".")[-1]} to those of the maps '
                    '(docs/checkpoints.md has a recipe for patches of 14), or change patch_size'
                )


def check_segmenter_sizes(cfg: Config, model: nn.Module) -> None:
    """Check that the images of a segmenter are multiples of the patch.

    The map of any other image covers more than it, and mmseg squeezes its logits to the image.

    Args:
        cfg: The config of the run.
        model: Its model, unwrapped; only segmenters on a ``PlainViT`` are checked.

    Raises:
        ValueError: If the size of training crops, of windows of slide inference, or the divisor of
            test images is no multiple of the patch.
    """
    backbone, preprocessor = getattr(model, 'backbone', None), cfg.model.get('data_preprocessor')
    if not isinstance(backbone, PlainViT) or cfg.get('default_scope') != 'mmseg':
        return
    patch = backbone.patch_embed.patch_size
    preprocessor, test_cfg = preprocessor or {}, cfg.model.get('test_cfg') or {}
    padding = preprocessor.get('test_cfg') or {}
    slide = test_cfg.get('mode') == 'slide'
    sizes = {
        'data_preprocessor.size': preprocessor.get('size'),
        'data_preprocessor.size_divisor': preprocessor.get('size_divisor'),
        'data_preprocessor.test_cfg.size': padding.get('size'),
        'data_preprocessor.test_cfg.size_divisor': padding.get('size_divisor'),
        'test_cfg.crop_size': test_cfg.get('crop_size') if slide else None,
    }
    for setting, value in sizes.items():
        sides = value if isinstance(value, Sequence) else [value]
        if any(side is not None and side % patch for side in sides):
            raise UserError(
                f'model.{setting}={value} is no multiple of patch_size={patch}, so logits would '
                f'not lie on their pixels; set it to one, such as {_multiples(value, patch)}'
            )
    divisors = [step.get('size_divisor', 32) for step in _test_steps(cfg, 'ResizeToMultiple')]
    aligned = any(divisor % patch == 0 for divisor in divisors)
    # In slide inference too: an image that is smaller than the window is a window of its own size.
    if not padding and not aligned and cfg.get('test_dataloader'):
        print_log(
            f'mmpvg: test images that are no multiple of patch_size={patch} will have logits that '
            'do not lie on their pixels; set model.data_preprocessor.test_cfg='
            f'dict(size_divisor={patch})',
            logger='current',
            level=logging.WARNING,
        )


def _detectors(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every detector in a model, such as teacher and student, with its prefix."""
    for name, module in model.named_modules():
        if hasattr(module, 'extract_feat') and isinstance(
            getattr(module, 'backbone', None), nn.Module
        ):
            yield f'{name}.' if name else '', module


def _assumed_strides(detector: nn.Module) -> Iterator[tuple[str, list[list[float]]]]:
    """Yield names of settings, and the strides (x, y) of every level in them."""
    for name, module in detector.named_modules():
        found = {
            f'{generator}.strides': getattr(getattr(module, generator, None), 'strides', None)
            for generator in _GENERATORS
        }
        # HTC's semantic branch reads a fused map of its own, not those of the neck.
        if 'semantic' not in name:
            found['featmap_strides'] = getattr(module, 'featmap_strides', None)
        for setting, strides in found.items():
            if isinstance(strides, Sequence):
                yield f'{name}.{setting}', [_pair(stride) for stride in strides]


def _pair(stride: float | Sequence[float]) -> list[float]:
    return list(stride) if isinstance(stride, Sequence) else [stride, stride]


@torch.no_grad()
def _probe(detector: nn.Module) -> Sequence[Tensor]:
    """The maps of an empty image that the heads of a detector get."""
    mean = getattr(getattr(detector, 'data_preprocessor', None), 'mean', None)
    weight = next(detector.parameters())
    image = weight.new_zeros(1, 3 if mean is None else len(mean), _PROBE_SIZE, _PROBE_SIZE)
    modes = {module: module.training for module in detector.modules()}
    try:
        return detector.eval().extract_feat(image)
    finally:
        for module, training in modes.items():
            module.training = training


def _differs(assumed: Sequence[float], measured: Sequence[float]) -> bool:
    return any(
        abs(b / a - 1) > _TOLERANCE
        for a, b in zip(assumed, measured)
        if _PROBE_SIZE / max(a, b) >= _FEWEST_CELLS
    )


def _shown(strides: Sequence[Sequence[float]]) -> str:
    return f'[{", ".join(f"{x:g}" if x == y else f"({x:g}, {y:g})" for x, y in strides)}]'


def _multiples(value: int | Sequence[int], patch: int) -> int | tuple[int, ...]:
    if isinstance(value, Sequence):
        return tuple(max(1, round(side / patch)) * patch for side in value)
    return max(1, round(value / patch)) * patch


def _test_steps(cfg: Config, kind: str) -> list[dict]:
    steps = first_config(cfg.get('test_dataloader')).get('pipeline') or []
    return [step for step in steps if str(step.get('type')).split('.')[-1] == kind]

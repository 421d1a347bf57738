"""Hooks, optimizers and loops of a training, and checks of its config."""

# Checks first that mmengine is there and fits.
from .. import registry as _registry  # noqa: F401
from .hooks.broken_data import BrokenDataHook
from .hooks.checkpoint import CheckpointHook
from .hooks.class_count import ClassCountCheckHook
from .hooks.finite_loss import FiniteLossHook
from .hooks.float32_boxes import Float32BoxesHook
from .hooks.preemption import PreemptionHook
from .optimizers.layer_decay import LayerDecayOptimWrapperConstructor
from .runner.loops import EpochBasedTrainLoop, IterBasedTrainLoop

__all__ = [
    'BrokenDataHook',
    'CheckpointHook',
    'ClassCountCheckHook',
    'EpochBasedTrainLoop',
    'FiniteLossHook',
    'Float32BoxesHook',
    'IterBasedTrainLoop',
    'LayerDecayOptimWrapperConstructor',
    'PreemptionHook',
]

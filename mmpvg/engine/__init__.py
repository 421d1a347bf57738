"""What runs around a model: parameter groups, checks, and the start of a run."""

# First of all: it checks that mmengine is there and fits.
from .. import registry as _registry  # noqa: F401
from .broken_data_hook import BrokenDataHook
from .checkpoint_hook import CheckpointHook
from .class_count_hook import ClassCountCheckHook
from .finite_loss_hook import FiniteLossHook
from .float32_boxes_hook import Float32BoxesHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .preemption_hook import PreemptionHook
from .reproducible_loops import EpochBasedTrainLoop, IterBasedTrainLoop

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

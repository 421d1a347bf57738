"""What runs around a model: parameter groups, checks, and the start of a run."""

from .class_count_hook import ClassCountCheckHook
from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['ClassCountCheckHook', 'LayerDecayOptimWrapperConstructor']

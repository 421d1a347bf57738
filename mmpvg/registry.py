"""The table of contents of mmpvg: child registries of mmengine's.

``type='mmpvg.MPVGViT'`` in a config of mmdet, mmseg or mmpretrain finds its class from any scope:
mmengine imports this module by the prefix and then the registry's ``locations``, so no
``custom_imports`` is needed.
"""

# ruff: noqa: E402
from .utils import require_stack

# Before the first import of mmengine, which must not fail with less than one clear sentence.
require_stack()

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import STRATEGIES as MMENGINE_STRATEGIES
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

# `_base_ = 'mmpvg::_base_/...'` and get_config('mmpvg::...'). A submodule, not the package, because
# mmengine finds the folder of an editable install by that alone.
MODULE2PACKAGE.setdefault('mmpvg', 'mmpvg.version')

# Backbones, necks and heads.
MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmpvg',
    locations=['mmpvg.models', 'mmpvg.models.heads'],
)

# Checks that run while training and testing.
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmpvg', locations=['mmpvg.engine'])

# Training that a kill and a resume do not change.
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmpvg', locations=['mmpvg.engine'])
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='mmpvg',
    locations=['mmpvg.engine.runner.batches'],
)

# How a model is spread over processes.
STRATEGIES = Registry(
    'strategy', parent=MMENGINE_STRATEGIES, scope='mmpvg', locations=['mmpvg.engine.runner.fsdp']
)

# Loading that notices broken data.
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmpvg',
    locations=['mmpvg.datasets.checked_loading'],
)

# Parameter groups: layer-wise learning-rate decay, no weight decay where the papers have none.
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmpvg',
    locations=['mmpvg.engine'],
)

# What a backbone starts from.
WEIGHT_INITIALIZERS = Registry(
    'weight initializer',
    parent=MMENGINE_WEIGHT_INITIALIZERS,
    scope='mmpvg',
    locations=['mmpvg.checkpoints'],
)

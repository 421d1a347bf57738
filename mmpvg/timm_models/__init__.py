"""Models with timm's interface; importing this registers them in timm.

    >>> import timm
    >>> import mmpvg.timm_models
    >>> model = timm.create_model('mpvg_vit_tiny_patch16_224')

The models are ``{default,lape,pvg,mpvg}_vit_{tiny,small,base}_patch16_224``. To pre-train one with
timm's training script, run the script through this package::

    python -m mmpvg.timm_models TIMM/train.py DATA --model mpvg_vit_tiny_patch16_224 ...
    torchrun --nproc_per_node=8 -m mmpvg.timm_models TIMM/train.py DATA --model ...

Its checkpoints are read by detection and segmentation configs
(``init_cfg=dict(type='mmpvg.PretrainedViT', checkpoint=...)``).
"""

try:
    import timm  # noqa: F401
except ImportError as error:
    raise ImportError('mmpvg.timm_models needs timm: run `pip install timm`') from error

from .entrypoints import default_cfgs
from .model import TimmMPVGViT

__all__ = ['TimmMPVGViT', 'default_cfgs']

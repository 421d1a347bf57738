"""``init_cfg=dict(type='mmpvg.PretrainedViT', checkpoint=...)``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from torch import nn

from mmpvg.registry import WEIGHT_INITIALIZERS

from ..models.backbones import PlainViT
from .fitting import check_pe_norms, fit
from .reading import read_weights
from .report import LoadReport
from .source import recognise


@WEIGHT_INITIALIZERS.register_module()
class PretrainedViT:
    """Initialize an ``MPVGViT`` from a plain ViT of another project.

    Reads timm models by name, and files, folders or URLs of DeiT, DeiT III, AugReg, MAE, DINOv2,
    LaPE, GAB, ViTDet, ViT-Adapter, mmpretrain, mmseg and mmpvg (a backbone, or a classifier,
    detector or segmenter that holds one). The log gets a report: what was loaded, resized, newly
    initialized, and ignored for which reason. A part of the source's ViT that would be lost raises,
    and so does a file that fits nothing; nothing is loaded then.

    With ``pe_norms='zero'`` the upgrade changes nothing at first: into ``pvg`` or ``mpvg``, a
    network trained with the default delivery computes what it did, since new PE norms deliver zero,
    and training opens them. ``lape`` adds no PE at the input, so there the network starts without
    any and differs.

    Args:
        checkpoint: ``timm://NAME``, a file, a folder, or a URL.
        prefix: What stands before the ViT's names in the file, for instance ``backbone.``. Found by
            itself unless the file holds several ViTs.
        key: Entry of the file that holds the weights, for instance ``state_dict_ema``; found by
            itself for the usual ones.
        grid: Grid (h, w) of the source's PE in patches, where it is not square.
        pe_norms: What PE norms that the source lacks start from: ``zero`` or ``one``.

    Raises:
        ValueError: If ``pe_norms`` is unknown.

    Examples:
        >>> from mmpvg.models import MPVGViT
        >>> init = dict(type='mmpvg.PretrainedViT', checkpoint='timm://deit_tiny_patch16_224')
        >>> vit = MPVGViT('deit-tiny', init_cfg=init)  # vit.init_weights() then loads it
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        key: str | None = None,
        grid: Sequence[int] | None = None,
        pe_norms: str = 'zero',
    ) -> None:
        check_pe_norms(pe_norms)
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.key = key
        self.grid = None if grid is None else (int(grid[0]), int(grid[1]))
        self.pe_norms = pe_norms

    def __call__(self, module: nn.Module) -> LoadReport:
        """Load into a backbone and log the report.

        Raises:
            FileNotFoundError: If the file does not exist.
            TypeError: If the module is no ``PlainViT``.
            ValueError: If the source cannot be read or does not fit.
        """
        if not isinstance(module, PlainViT):
            raise TypeError(
                f'mmpvg.PretrainedViT fills an MPVGViT, got {type(module).__name__}; put it in '
                'init_cfg of the backbone, not of the whole model'
            )
        source = recognise(read_weights(self.checkpoint, self.key), self.checkpoint, self.prefix)
        state, report = fit(source, module, self.grid, self.pe_norms)
        module.load_state_dict(state)
        print_log(f'mmpvg.PretrainedViT: {report}', logger='current')
        frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
        untrained = ('as initialized', 'starts as zero')
        if stuck := [name for name in frozen if report.new.get(name, '').startswith(untrained)]:
            print_log(
                f'{len(stuck)} tensors that {self.checkpoint} lacks are frozen and stay as they '
                f'start: {", ".join(stuck[:4])}{", ..." if stuck[4:] else ""}. A PE norm of zero '
                'delivers no position, nor do those after it in a hierarchical delivery. Lower '
                f'frozen_stages={module.frozen_stages}, or start from weights that have them',
                logger='current',
                level=logging.WARNING,
            )
        if pixels := report.unlike_imagenet():
            print_log(
                f"the images of {self.checkpoint} were not normalized as ImageNet's: set {pixels} "
                'in the data_preprocessor',
                logger='current',
                level=logging.WARNING,
            )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'PretrainedViT: from {self.checkpoint}')
        return report

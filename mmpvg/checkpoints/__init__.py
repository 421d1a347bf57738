"""Other projects' weights -> ours: explicit key maps, loud reports."""

# First of all: it checks that mmengine is there and fits.
from .. import registry as _registry  # noqa: F401
from .arguments import backbone_arguments
from .families import FAMILIES, Family
from .fitting import fit
from .pretrained import PretrainedViT
from .reading import Weights, read_weights
from .report import LoadReport
from .resize import resize_patch_kernel, split_rows
from .safe_load import RefusedFileError, load_pth
from .source import SourceViT, recognise

__all__ = [
    'FAMILIES',
    'Family',
    'LoadReport',
    'PretrainedViT',
    'RefusedFileError',
    'SourceViT',
    'Weights',
    'backbone_arguments',
    'fit',
    'load_pth',
    'read_weights',
    'recognise',
    'resize_patch_kernel',
    'split_rows',
]

"""Weights from timm by name, and the check that timm's network is a plain ViT."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import torch
from mmengine.utils import digit_version
from torch import nn

from mmpvg.utils.errors import UserError

from ..models.backbones import MPVGViT
from .arguments import backbone_arguments
from .families import MMPVG
from .fitting import fit
from .reading import Pixels, Weights
from .safe_load import RefusedFileError, load_pth
from .source import recognise

# Relative differences of features. Equal networks differ by rounding, GELU's tanh approximation by
# about 1e-4, another order of norms or a rotary position embedding by tens of percent.
_SAME = 3e-5
_ANOTHER = 1e-2

# Files that timm reads with torch.load when a folder has no safetensors that it prefers.
_TORCH_FILES = ('.bin', '.pth', '.pth.tar', '.pt', '.ckpt')

# Before 2.6 torch.load runs a TorchScript program even with weights_only=True.
_RUNS_PROGRAMS = digit_version(torch.__version__) < digit_version('2.6')


def read_timm(name: str) -> Weights:
    """Read a pre-trained model through timm.

    ``load_pth`` reads the files of a folder before, and refuses those that would run code. From the
    hub, torch before 2.6 reads ``model.safetensors`` alone.

    Args:
        name: As ``timm.create_model`` takes it: ``deit_tiny_patch16_224.fb_in1k``,
            ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER``.

    Raises:
        ImportError: If timm is missing.
        RefusedFileError: A ``ValueError``, if a file of the folder is refused.
        ValueError: If timm has no such model or cannot get its weights, or if it is no plain ViT.
    """
    try:
        import timm
        from timm.models import parse_model_name
    except ImportError as error:
        raise ImportError(f'timm://{name} needs timm: run `pip install timm`') from error
    architecture = name.split('.')[0]
    if ':' not in name and not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models('*vit*'), n=3, cutoff=0.5)
        near += difflib.get_close_matches(architecture, timm.list_models('deit*'), n=2, cutoff=0.5)
        raise UserError(f'timm has no model {architecture!r}; near ones: {", ".join(near)}')
    overlay = None
    try:
        scheme, location = parse_model_name(name)
        if scheme == 'local-dir':
            for path in sorted(Path(location).glob('*')):
                if path.name.endswith(_TORCH_FILES):
                    load_pth(path)
        elif scheme == 'hf-hub' and _RUNS_PROGRAMS:
            overlay = dict(hf_hub_filename='model.safetensors', custom_load=False)
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except RefusedFileError:
        raise
    except Exception as error:  # timm, the hub and safetensors raise many kinds
        # A LocalEntryNotFoundError is of a hub that cannot be reached.
        if overlay and type(error).__name__ in ('EntryNotFoundError', 'RemoteEntryNotFoundError'):
            raise UserError(
                f'{name} has no model.safetensors, and torch {torch.__version__} might run code in '
                'other files of the hub; use torch 2.6 or later, or download the file of weights '
                'and give that'
            ) from None
        raise UserError(
            f'timm cannot get the weights of {name} ({type(error).__name__}: {error}). Without '
            'network give a file of them with --backbone FILE, or start from nothing with '
            '--cfg-options model.backbone.init_cfg=None'
        ) from error
    return weights_of(model, f'timm://{name}')


def weights_of(model: Any, label: str) -> Weights:
    """Take the weights out of a model of timm's that is a plain ViT.

    Norms after the branches or rotary position embeddings leave no trace in names and shapes. So
    the weights are read as from a file, and the features of both networks are compared on a small
    random image. The model is not the same afterwards.

    Args:
        model: The model; its size is changed.
        label: What messages call it.

    Returns:
        Its weights, with grid, heads and normalization.

    Raises:
        ValueError: If it is no plain ViT, or its features differ by more than a hundredth.
    """
    cfg = getattr(model, 'pretrained_cfg', None) or {}
    pixels = None
    if cfg.get('mean') and cfg.get('std'):
        pixels = Pixels(*(tuple(255 * v for v in cfg[name]) for name in ('mean', 'std')))
    weights = Weights(model.state_dict(), pixels=pixels)
    if recognise(weights, label).family == MMPVG.name:
        return weights  # our own network in timm's form
    grid = getattr(getattr(model, 'patch_embed', None), 'grid_size', None)
    if grid is None:
        raise UserError(f'{label} is a {type(model).__name__} of timm, which is no plain ViT')
    weights = weights._replace(grid=tuple(grid), num_heads=model.blocks[0].attn.num_heads)
    difference = _compare(model, weights, label)
    if not difference <= _ANOTHER:  # NaN too
        raise UserError(
            f'{label} has the names of a plain ViT and is another network ({_structure(model)}): '
            f'with its weights, the features of MPVGViT differ from its own by {difference:.0%}'
        )
    if difference > _SAME:
        note = (
            f"timm's network differs in a detail ({_structure(model)}): with the same weights, "
            f'features differ by {difference:.0e} of their norm'
        )
        return weights._replace(notes=(note,))
    return weights


@torch.no_grad()
def _compare(model: Any, weights: Weights, label: str) -> float:
    """Norm of the difference of features over the norm of timm's, on a small random image."""
    # A few patches; any position embedding serves the comparison.
    table = getattr(model, 'pos_embed', None)
    if table is not None and table.ndim == 4:
        # SAM's, whose neck is not part of the ViT: two windows of 14 a side.
        side = min(28, *table.shape[1:3])
        model.pos_embed = nn.Parameter(table[:, :side, :side])
        model.neck = nn.Identity()
        grid = tuple(model.pos_embed.shape[1:3])
    else:
        if hasattr(model, 'set_input_size'):
            model.set_input_size(tuple(8 * side for side in model.patch_embed.patch_size))
        grid = model.patch_embed.grid_size
    source = recognise(weights._replace(tensors=model.state_dict(), grid=grid), label)
    arguments = backbone_arguments(source)
    if 'pe_type' in arguments:  # None, or a sinusoid, which a learnable table can hold
        arguments['pe_type'] = arguments['pe_type'] and 'learnable'
    with torch.device('meta'):  # without drawing initial values, which takes seconds
        vit = MPVGViT(**arguments).eval()
    vit.to_empty(device='cpu')
    vit.load_state_dict(fit(source, vit)[0])
    sides = [side * vit.patch_embed.patch_size for side in grid]
    channels = vit.patch_embed.proj.in_channels
    image = torch.randn(1, channels, *sides, generator=torch.Generator().manual_seed(0))
    theirs, (ours,) = model.eval().forward_features(image), vit(image)
    if theirs.ndim == 3:
        theirs = theirs[:, -ours[0, 0].numel() :].transpose(1, 2).unflatten(2, grid)
    return ((theirs - ours).norm() / theirs.norm().clamp(min=1e-12)).item()


def _structure(model: Any) -> str:
    """What a message can say about how a model of timm's is built."""
    block = model.blocks[0]
    parts = [type(model).__name__, type(block).__name__, type(block.attn).__name__]
    parts.append(type(getattr(block.mlp, 'act', block.mlp)).__name__)
    rotary = ', rotary position embedding' if getattr(model, 'rope', None) is not None else ''
    return f'{", ".join(parts)}{rotary}'

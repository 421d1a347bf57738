"""Recognizing a ViT in a file and giving its parts our names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

from .families import DEIT_III, TIMM, find_family, looks_like
from .reading import Pixels, Weights
from .resize import Grid, split_rows

_STEM = re.compile(r'(.*?)patch_embed\.proj(ection)?\.weight')

_READ_AS_TIMM = (
    'another network, which a file does not show: if it may be one, read it as timm://NAME or as a '
    "folder with timm's config.json, which compares the features"
)
_NORMS_AFTER = (
    "timm's *_rpn_* models have these parts and norm after the branches, which is " + _READ_AS_TIMM
)
_MAY_BE_ROTARY = (
    "timm's *_rope_ape_* models saved to a file have DeiT III's names and a rotary position "
    'embedding, which is ' + _READ_AS_TIMM
)

# Axes of the parts whose shapes are used before they are compared with the backbone's.
_AXES = {
    r'cls_token|dist_token|register_tokens|position_embedding\.cls_row': (3,),
    r'pos_embed': (2, 3, 4),
    r'position_embedding\.table': (4,),
    r'blocks\.\d+\.mlp\.fc[12]\.weight': (2,),
    r'blocks\.\d+\.attn\.rel_pos\.(rows|columns|mlp\.fc[12]\.weight)': (2,),
    r'blocks\.\d+\.attn\.bias\.(a|sigma)': (1,),
}
_TOKENS = (
    *('cls_token', 'dist_token', 'register_tokens', 'pos_embed'),
    *('position_embedding.table', 'position_embedding.cls_row'),
)


@dataclass
class SourceViT:
    """A ViT of another project in our naming, its position embedding (PE) as it came.

    Attributes:
        label: Where it comes from, for messages.
        family: Whose naming it had.
        tensors: Our name -> tensor. A PE in ``pos_embed`` is flat, (1, rows, D).
        grid: Grid (h, w) of the PE, if it is known.
        num_heads: Attention heads, if they are known: weights seldom show them.
        ignored: Name in the file -> why it is left out.
        notes: What the user should know about the source.
        pixels: How its images were normalized, if it is known.
    """

    label: str
    family: str
    tensors: dict[str, Tensor]
    grid: Grid | None = None
    num_heads: int | None = None
    ignored: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pixels: Pixels | None = None

    @property
    def depth(self) -> int:
        """Number of blocks."""
        blocks = (re.match(r'blocks\.(\d+)\.', name) for name in self.tensors)
        return 1 + max((int(match[1]) for match in blocks if match), default=-1)

    @property
    def dims(self) -> int:
        """Channels D."""
        return self.tensors['patch_embed.proj.weight'].shape[0]

    def split_pe(
        self, grid: Grid | None = None, native_grid: Grid | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Split ``pos_embed``; see ``split_rows``.

        Returns:
            Extra token -> its rows, (1, n, D), for those that have some; the table, (1, h, w, D).
        """
        rows = self.tensors['pos_embed']
        if rows.ndim == 4:  # as SAM's: the grid is the shape
            return {}, rows
        extra: list[str] = [n for n in ('cls_token', 'dist_token') if n in self.tensors]
        if 'register_tokens' in self.tensors:
            extra += ['register_tokens'] * self.tensors['register_tokens'].shape[1]
        found, table = split_rows(rows, tuple(extra), grid or self.grid, native_grid, self.label)
        return {name: some for name, some in found.items() if some.shape[1]}, table


def recognise(weights: Weights, label: str, prefix: str | None = None) -> SourceViT:
    """Give the parts of a ViT our names.

    Args:
        weights: What was read.
        label: Where it comes from, for messages.
        prefix: What stands before the ViT's own names, for instance ``backbone.``; found by itself
            unless the file holds several ViTs.

    Raises:
        ValueError: If the file holds no ViT of a known family or several, or if a part of the ViT
            is in no table, is not of floating-point numbers or has other axes.
    """
    prefix = _find_prefix(weights.tensors, label) if prefix is None else prefix
    inside = {n[len(prefix) :]: t for n, t in weights.tensors.items() if n.startswith(prefix)}
    family = find_family(inside)
    if family is None:
        raise UserError(
            f'{label} holds no plain ViT under prefix {prefix!r}: '
            f'{looks_like(inside or weights.tensors)}. timm, DeiT, DeiT III, AugReg, MAE, DINOv2, '
            'LaPE, ViTDet, ViT-Adapter, mmpretrain, mmseg and mmpvg are read'
        )
    source = SourceViT(
        label,
        family.name,
        {},
        weights.grid,
        weights.num_heads,
        notes=weights.notes,
        pixels=weights.pixels,
    )
    source.ignored.update({entry: 'other weights in the file' for entry in weights.left})
    for name in weights.tensors:
        if not name.startswith(prefix):
            source.ignored[name] = 'lies outside the backbone'
    leftovers = []
    for name, tensor in inside.items():
        if renamed := family.rename(name):
            _check_tensor(tensor, renamed, f'{prefix}{name} of {label}')
            source.tensors[renamed] = tensor
        elif reason := family.why_ignored(name):
            source.ignored[prefix + name] = reason
        else:
            leftovers.append(name)
    # A ViT without a prefix may have heads and the like among its own names.
    if leftovers:
        raise UserError(
            f'{label} was read as a {family.name} ViT, but {len(leftovers)} of its parts have no '
            f'place in MPVGViT ({", ".join(leftovers[:4])}{", ..." if leftovers[4:] else ""}): '
            f'{looks_like(leftovers)}. Without them it would be another network'
        )
    _straighten(source)
    if family is TIMM and _may_norm_after(source.tensors):
        source.notes = (*source.notes, _NORMS_AFTER)
    if family is DEIT_III:
        source.notes = (*source.notes, _MAY_BE_ROTARY)
    return source


def _check_tensor(tensor: Tensor, name: str, label: str) -> None:
    """Refuse what no weights are, which loading would convert without a word."""
    shape = tuple(tensor.shape)
    if tensor.is_meta or tensor.layout is not torch.strided:
        kind = 'a meta tensor without values' if tensor.is_meta else str(tensor.layout)
        raise UserError(f'{label}, of shape {shape}, is {kind}; save its dense values')
    # BatchNorm counts its steps.
    if not tensor.is_floating_point() and not name.endswith('.num_batches_tracked'):
        raise UserError(
            f'{label}, of shape {shape}, is {tensor.dtype}, not floating point: its values are '
            'quantized or no weights; give the original weights'
        )
    for pattern, axes in _AXES.items():
        if re.fullmatch(pattern, name) and tensor.ndim not in axes:
            wanted = ' or '.join(map(str, axes))
            raise UserError(f'{label} has shape {shape}, where {wanted} axes are read')


def _straighten(source: SourceViT) -> None:
    """Give parts that have other axes in some sources ours, and find the number of heads."""
    tensors = source.tensors
    if 'pos_embed' in tensors and tensors['pos_embed'].ndim == 2:  # LaPE's 1-D sinusoid
        tensors['pos_embed'] = tensors['pos_embed'][None]
    kernel = tensors['patch_embed.proj.weight']
    if kernel.ndim == 5 and kernel.shape[2] == 1:  # Prithvi's, (D, C, frames, P, P)
        tensors['patch_embed.proj.weight'] = kernel[:, :, 0]
    elif kernel.ndim != 4:
        raise UserError(
            f'{source.label} has a patch embedding of shape {tuple(kernel.shape)}, where (D, C, P, '
            'P) is read, or (D, C, 1, P, P) for one frame'
        )
    for name in _TOKENS:
        shape = tensors[name].shape if name in tensors else (1, source.dims)
        if shape[0] != 1 or shape[-1] != source.dims:
            raise UserError(
                f'{source.label} has {name} of shape {tuple(shape)}, where the first axis should '
                f'be 1 and the last {source.dims}, as wide as its patch embedding'
            )
    if source.num_heads is None:
        source.num_heads = _heads_of(tensors, source.dims)


def _may_norm_after(tensors: Collection[str]) -> bool:
    """Whether the parts are those of timm's ``*_rpn_*`` models too."""
    without = ('blocks.0.attn.qkv.bias', 'blocks.0.ls1.gamma', 'cls_token')
    relative = 'blocks.0.attn.rel_pos.mlp.fc1.weight' in tensors
    return not any(name in tensors for name in without) and (
        relative or 'norm.weight' not in tensors
    )


def _heads_of(tensors: Mapping[str, Tensor], dims: int) -> int | None:
    """Attention heads, if a relative position or a Gaussian bias shows them."""
    mlp, rows, amplitudes = (
        tensors.get(f'blocks.0.attn.{part}')
        for part in ('rel_pos.mlp.fc2.weight', 'rel_pos.rows', 'bias.a')
    )
    if mlp is not None:
        return mlp.shape[0]
    if rows is not None:
        return dims // rows.shape[1]
    return len(amplitudes) if amplitudes is not None and amplitudes.numel() > 1 else None


def _find_prefix(tensors: Mapping[str, Tensor], label: str) -> str:
    found = sorted({match[1] for name in tensors if (match := _STEM.fullmatch(name))})
    if not found:
        raise UserError(
            f'{label} holds no plain ViT: no patch_embed.proj.weight is in it; '
            f'{looks_like(tensors)}'
        )
    if len(found) > 1:
        raise UserError(
            f'{label} holds several ViTs, at {", ".join(map(repr, found))}; choose one with prefix='
        )
    return found[0]

"""Fitting a stranger's ViT to a backbone: every tensor accounted for, or an error."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

from ..models.backbones import VIT_ARCHS, PlainViT
from .report import LoadReport
from .resize import Grid, adapt_channels, resize_patch_kernel
from .source import SourceViT
from .token_fitting import PE, TokenFitting

_PE_NORM = re.compile(r'pe_delivery\.(block_norms\.(\d+)|last_norm)\.(weight|bias)')
PE_NORM_STARTS = ('zero', 'one')


def fit(
    source: SourceViT,
    backbone: PlainViT,
    grid: Grid | None = None,
    pe_norms: str = 'zero',
) -> tuple[dict[str, Tensor], LoadReport]:
    """Make a whole state dict for a backbone out of a stranger's ViT.

    Args:
        source: The ViT; not changed.
        backbone: The network to be filled; not changed.
        grid: Grid (h, w) of the source's PE, where rows alone do not tell.
        pe_norms: What PE norms that the source lacks start from. ``zero``: weight and bias 0, so
            that nothing is delivered at first. ``one``: as a new LayerNorm.

    Returns:
        The state dict, complete for ``load_state_dict`` but for the size of the PE table, which the
        backbone resizes itself; and the report.

    Raises:
        ValueError: If widths, depths, channels, tokens, PE or norms do not fit, or a value is not
            finite. The message names the offending value and the fix.
    """
    if pe_norms not in PE_NORM_STARTS:
        raise UserError(f"pe_norms must be 'zero' or 'one', got {pe_norms!r}")
    return _Fitting(source, backbone, grid, pe_norms).run()


class _Fitting(TokenFitting):
    """The steps of ``fit``; each moves tensors from what is left to what is done."""

    def __init__(self, source: SourceViT, backbone: PlainViT, grid: Grid | None, pe_norms: str):
        super().__init__(source, backbone, grid)
        self.pe_norms = pe_norms

    def run(self) -> tuple[dict[str, Tensor], LoadReport]:
        self._check_size()
        self._check_finite()
        self._drop_unbuilt()
        self._patch_kernel()
        self._fit_tokens()
        self._pe_norms()
        self._layer_scale()
        self._take_equal()
        self._start_missing()
        return self.done, self.report

    def _check_size(self) -> None:
        arch = self.backbone.arch
        dims, depth = self.source.dims, self.source.depth
        hidden = self.left.get('blocks.0.mlp.fc1.weight')
        ratio = arch.mlp_ratio if hidden is None else hidden.shape[0] / dims
        built = len(self.backbone.blocks)
        narrowed = self.left.get('blocks.0.mlp.fc2.weight')
        if None not in (hidden, narrowed) and hidden.shape[0] != narrowed.shape[1]:
            raise self._fail('its MLP is gated (SwiGLU), which this backbone does not have')
        if self.source.num_heads not in (None, arch.num_heads):
            raise self._fail(
                f'it has {self.source.num_heads} attention heads, this backbone {arch.num_heads}; '
                f'set arch=dict(embed_dims={dims}, num_layers={depth}, '
                f'num_heads={self.source.num_heads}, mlp_ratio={ratio:g})'
            )
        # A checkpoint of ours may lack blocks after its last tap.
        deep_enough = depth == arch.num_layers or depth == built
        if (
            dims == arch.embed_dims
            and deep_enough
            and int(ratio * dims) == int(arch.mlp_ratio * dims)
        ):
            return
        names = [n for n, a in VIT_ARCHS.items() if (a.embed_dims, a.num_layers) == (dims, depth)]
        fix = f"arch='{names[0]}'" if names else 'an arch dict of that size'
        raise self._fail(
            f'it is {dims} wide with {depth} blocks and an MLP ratio of {ratio:g}, this backbone '
            f'{arch.embed_dims} wide with {arch.num_layers} and {arch.mlp_ratio:g}; set {fix}'
        )

    def _check_finite(self) -> None:
        bad = [n for n, t in self.left.items() if not torch.isfinite(t.float()).all()]
        if bad:
            more = f' and {len(bad) - 3} more' if len(bad) > 3 else ''
            raise self._fail(f'values that are not finite in {", ".join(bad[:3])}{more}')

    def _drop_unbuilt(self) -> None:
        """Leave out what comes after the last tap."""
        built = len(self.backbone.blocks)
        for name in list(self.left):
            match = re.match(r'(?:blocks|pe_delivery\.block_norms)\.(\d+)\.', name)
            if match and int(match[1]) >= built:
                self._ignore(name, f'comes after the last tap, block {built - 1}')
        ends_before = [] if self.backbone.norm is not None else ['norm.']
        if not self.backbone.takes_last_pe():
            ends_before.append('pe_delivery.last_norm.')
        for name in list(self.left):
            if name.startswith(tuple(ends_before)):
                self._ignore(name, 'this backbone ends before the last norm')

    def _patch_kernel(self) -> None:
        name = 'patch_embed.proj.weight'
        kernel, wanted = self.left[name], self.target[name]
        have, channels = kernel.shape[1], wanted.shape[1]
        changes = []
        if have != channels:
            if have != 3:
                raise self._fail(
                    f'its patches have {have} channels; set in_channels={have} (got {channels})'
                )
            kernel = adapt_channels(kernel, channels)
            how = 'summed' if channels == 1 else f'repeated and scaled by 3/{channels}'
            changes.append(f'{have} -> {channels} channels, {how} as timm does')
        resized = resize_patch_kernel(kernel, tuple(wanted.shape[2:]))
        if resized.shape != kernel.shape:
            sides = [f'{t.shape[2]}x{t.shape[3]}' for t in (kernel, resized)]
            changes.append(f'{sides[0]} -> {sides[1]} pixels')
        if changes:
            self.report.resized[name] = '; '.join(changes)
        self.left[name] = resized

    def _pe_norms(self) -> None:
        """Start the PE norms that the source lacks; refuse those that have no place."""
        given = {name for name in self.left if _PE_NORM.fullmatch(name)}
        wanted = {name for name in self.target if _PE_NORM.fullmatch(name)}
        new = wanted - given
        # In a chain of norms, none can be left out or put in.
        in_blocks = [name for name in new if 'block_norms' in name]
        if given - wanted or (in_blocks and any('block_norms' in name for name in given)):
            raise self._fail(
                f'it delivers the position embedding to {_receivers(given)}, this backbone to '
                f'{_receivers(wanted)}; set the pe_delivery that it was trained with'
            )
        for name in sorted(new):
            at_one = self.pe_norms == 'one' and name.endswith('.weight')
            self.left[name] = torch.full_like(self.target[name], float(at_one))
            self.report.new[name] = f'starts as {self.pe_norms}; the source has no such PE norm'
        if new and not self.backbone.pe_delivery.plan.at_input:
            self.report.notes.append(
                'this delivery adds no position embedding at the input, where the source has it: '
                'the network is not the source at first, and has to learn from its PE norms'
            )
        elif new and self.pe_norms == 'zero':
            self.report.notes.append(
                'the new PE norms deliver nothing at first: they change nothing until trained'
            )

    def _layer_scale(self) -> None:
        name = 'blocks.0.ls1.gamma'
        # For an adapter's checkpoint in a plain ViT, _take_equal names the type that it needs.
        parts = [
            any(key.startswith('spatial_prior.') for key in keys)
            for keys in (self.left, self.target)
        ]
        if name in self.left and name not in self.target and parts != [True, False]:
            raise self._fail(
                'it has LayerScale; set layer_scale_init_value=1.0 (its own factors are loaded)'
            )
        if name in self.target and name not in self.left:
            for name in self.target:
                if re.fullmatch(r'blocks\.\d+\.ls[12]\.gamma', name):
                    self.left[name] = torch.ones_like(self.target[name])
                    self.report.new[name] = 'starts as one, which changes nothing'

    def _take_equal(self) -> None:
        for name in list(self.left):
            if name not in self.target:
                continue
            tensor, wanted = self.left.pop(name), self.target[name]
            if name != PE + 'table' and tensor.shape != wanted.shape:
                raise self._fail(
                    f'{name} has shape {tuple(tensor.shape)}, this backbone needs '
                    f'{tuple(wanted.shape)}{_relative_fix(name, tensor)}'
                )
            self.done[name] = tensor.to(wanted.dtype)
            if name not in self.report.new:
                self.report.loaded[name] = tensor.numel()
        if self.left:
            hints = {
                '.attn.bias.': 'gaussian_bias',
                '.rel_pos.mlp.': "relative_position='mlp'",
                '.rel_pos.rows': "relative_position='decomposed'",
                '.qkv.bias': 'qkv_bias=True',
                'spatial_prior.': "type='mmpvg.MPVGViTAdapter'",
            }
            found = [h for part, h in hints.items() if any(part in n for n in self.left)]
            hint = f'; set its {" and ".join(found)}' if found else ''
            raise self._fail(f'no place for {", ".join(list(self.left)[:4])}{hint}')

    def _start_missing(self) -> None:
        """What the source may lack without being another network."""
        starts = {
            r'norm\.(weight|bias)': 'as initialized; the source has no last norm on tokens',
            r'cls_token|position_embedding\.cls_row': 'as initialized; the source has none',
            r'register_tokens': 'as initialized; the source has none',
            r'blocks\.\d+\.attn\.bias\.(a|sigma)': 'as initialized; the source has no such bias',
            r'blocks\.\d+\.attn\.rel_pos\..*': 'as initialized; the source has no such bias',
        }
        missing = []
        for name, value in self.target.items():
            if name in self.done:
                continue
            if re.fullmatch(r'patch_embed\.proj\.bias|blocks\.\d+\.attn\.qkv\.bias', name):
                self.done[name] = torch.zeros_like(value)
                self.report.new[name] = 'zero, as the source has no bias there'
                continue
            reason = next((r for p, r in starts.items() if re.fullmatch(p, name)), None)
            if name.split('.')[0] in self.backbone.extra_modules:
                reason = 'as initialized; the source is a ViT without it'
            if reason is None:
                missing.append(name)
                continue
            self.done[name] = value
            self.report.new[name] = reason
        if missing:
            raise self._fail(
                f'it lacks {len(missing)} parts of a ViT: {", ".join(missing[:4])}'
                f'{", ..." if missing[4:] else ""}'
            )


def _relative_fix(name: str, tensor: Tensor) -> str:
    if not re.search(r'\.rel_pos\.(rows|columns)$', name):
        return ''
    side = (tensor.shape[0] + 1) // 2
    return (
        f'; it is for {side} patches along that axis: set window_size, or, in a global block, '
        'grid of relative_position, to it'
    )


def _receivers(pe_norms: set[str]) -> str:
    """Who receives the PE through these norms."""
    matches = [match for name in pe_norms if (match := _PE_NORM.fullmatch(name))]
    blocks = sorted({int(match[2]) for match in matches if match[2]})
    receivers = [f'blocks {blocks[0]} to {blocks[-1]}'] if blocks else []
    if any(match[2] is None for match in matches):
        receivers.append('the last norm')
    return ' and '.join(receivers) or 'the input alone'

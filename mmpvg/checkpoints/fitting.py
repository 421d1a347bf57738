"""Fitting a stranger's ViT to a backbone: every tensor accounted for, or an error."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ..models.backbones import VIT_ARCHS, MPVGViT
from .report import LoadReport
from .resize import Grid, resize_patch_kernel, split_rows
from .source import SourceViT

_PE = 'position_embedding.'
_PE_NORM = re.compile(r'pe_delivery\.(block_norms\.(\d+)|last_norm)\.(weight|bias)')
PE_NORM_STARTS = ('zero', 'one')


def fit(
    source: SourceViT,
    backbone: MPVGViT,
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
        raise ValueError(f"pe_norms must be 'zero' or 'one', got {pe_norms!r}")
    return _Fitting(source, backbone, grid, pe_norms).run()


class _Fitting:
    """The steps of :func:`fit`; each moves tensors from what is left to what is done."""

    def __init__(self, source: SourceViT, backbone: MPVGViT, grid: Grid | None, pe_norms: str):
        self.source = source
        self.backbone = backbone
        self.grid = grid or source.grid
        self.pe_norms = pe_norms
        self.left = dict(source.tensors)
        self.done: dict[str, Tensor] = {}
        self.target = backbone.state_dict()
        self.report = LoadReport(source.label, source.family, ignored=dict(source.ignored))

    def run(self) -> tuple[dict[str, Tensor], LoadReport]:
        self._check_size()
        self._check_finite()
        self._drop_unbuilt()
        self._patch_kernel()
        self._tokens_and_pe()
        self._pe_norms()
        self._layer_scale()
        self._take_equal()
        self._start_missing()
        return self.done, self.report

    def _fail(self, message: str) -> ValueError:
        return ValueError(f'{self.source.label} does not fit: {message}')

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

    def _ignore(self, name: str, reason: str) -> None:
        del self.left[name]
        self.report.ignored[name] = reason

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
        if kernel.shape[1] != wanted.shape[1]:
            raise self._fail(
                f'its patches have {kernel.shape[1]} channels; set in_channels={kernel.shape[1]} '
                f'(got {wanted.shape[1]})'
            )
        resized = resize_patch_kernel(kernel, tuple(wanted.shape[2:]))
        if resized.shape != kernel.shape:
            sides = [f'{t.shape[2]}x{t.shape[3]}' for t in (kernel, resized)]
            self.report.resized[name] = f'{sides[0]} -> {sides[1]} pixels'
        self.left[name] = resized

    def _tokens_and_pe(self) -> None:
        """Class token, registers, and the PE's table and rows."""
        left = self.left
        registers = left.get('register_tokens')
        tokens = [name for name in ('cls_token', 'dist_token') if name in left]
        extra = (*tokens, *['register_tokens'] * (0 if registers is None else registers.shape[1]))
        rows: dict[str, Tensor] = {}
        if 'pos_embed' in left:
            rows, table = self._split(left.pop('pos_embed'), extra)
            left[_PE + 'table'] = table
            rows = {name: row for name, row in rows.items() if row.shape[1]}
        # A token of whatever kind that has no PE of its own is a register once its row is added.
        parts = [
            left.pop(name) + rows.get(name, 0)
            for name in ('dist_token', 'register_tokens')
            if name in left
        ]
        if parts:
            left['register_tokens'] = torch.cat(parts, dim=1)
        if 'cls_token' in left and self.backbone.cls_token is not None:
            if _PE + 'cls_row' in self.target and _PE + 'cls_row' not in left:
                left[_PE + 'cls_row'] = rows.get('cls_token', torch.zeros_like(left['cls_token']))
        elif 'cls_token' in left:
            reason = 'with_cls_token=False; the source was trained with one'
            self._ignore('cls_token', reason)
            if _PE + 'cls_row' in left:
                self._ignore(_PE + 'cls_row', reason)
        self._check_registers()
        self._check_table()

    def _split(self, pos_embed: Tensor, extra: tuple[str, ...]) -> tuple[dict, Tensor]:
        if pos_embed.ndim == 4:  # (1, h, w, D), as SAM's and ours: the grid is the shape
            return {}, pos_embed
        ours = self.backbone.position_embedding
        native = None if ours is None else ours.grid
        return split_rows(pos_embed, extra, self.grid, native, self.source.label)

    def _check_registers(self) -> None:
        name = 'register_tokens'
        given = self.left[name].shape[1] if name in self.left else 0
        wanted = self.target[name].shape[1] if name in self.target else 0
        if given and wanted and given != wanted:
            raise self._fail(f'it has {given} registers; set num_registers={given} (got {wanted})')
        if given and not wanted:
            self._ignore(
                name, f'num_registers=0; the source was trained with {given} (distillation counts)'
            )

    def _check_table(self) -> None:
        name = _PE + 'table'
        learnable = name in self.target
        if learnable and name not in self.left:
            relative = any('.attn.rel_pos.' in n for n in self.left)
            fix = "; set pe_type=None, pe_delivery='none'" if relative else ''
            raise self._fail(
                'it has no learnt position embedding (rotary ones, as in DINOv3, are not read)'
                + fix
            )
        if not learnable and name in self.left:
            raise self._fail("it has a learnt position embedding; set pe_type='learnable'")
        if self.backbone.position_embedding is None:
            return
        if not learnable:
            self.report.notes.append(
                'the source has no learnt position embedding: unless it had this very sinusoid, '
                'the network is another one'
            )
            return
        have, wanted = self.left[name].shape[1:3], self.target[name].shape[1:3]
        if have != wanted:
            mode = self.backbone.position_embedding.interpolate_mode
            self.report.resized[name] = (
                f'{have[0]}x{have[1]} -> {wanted[0]}x{wanted[1]} patches, {mode}'
            )

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
        of_adapter = any(key.startswith('spatial_prior.') for key in self.left)
        if name in self.left and name not in self.target and not of_adapter:
            raise self._fail('it has LayerScale; set layer_scale=1.0 (its own factors are loaded)')
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
            if name != _PE + 'table' and tensor.shape != wanted.shape:
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
            if name.split('.')[0] in self.backbone.beside_the_vit:
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
        'relative_grid, to it'
    )


def _receivers(pe_norms: set[str]) -> str:
    """Who receives the PE through these norms."""
    matches = [match for name in pe_norms if (match := _PE_NORM.fullmatch(name))]
    blocks = sorted({int(match[2]) for match in matches if match[2]})
    receivers = [f'blocks {blocks[0]} to {blocks[-1]}'] if blocks else []
    if any(match[2] is None for match in matches):
        receivers.append('the last norm')
    return ' and '.join(receivers) or 'the input alone'

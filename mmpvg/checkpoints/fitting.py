"""Fitting a ViT of another project to a backbone: every tensor accounted for, or an error."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

from ..models.backbones import VIT_ARCHS, PlainViT
from .report import LoadReport
from .resize import Grid, adapt_channels, find_sinusoid, resize_patch_kernel, same_rows
from .source import SourceViT

PE_NORM_STARTS = ('zero', 'one')

_TABLE, _CLS_ROW = 'position_embedding.table', 'position_embedding.cls_row'
_PE_NORM = re.compile(r'pe_delivery\.(block_norms\.(\d+)|last_norm)\.(weight|bias)')

# What the source may lack without being another network: a pattern of names, and the start.
_NO_BIAS = 'zero, as the source has no bias there'
_STARTS = {
    r'patch_embed\.proj\.bias|blocks\.\d+\.attn\.qkv\.bias': _NO_BIAS,
    r'norm\.(weight|bias)': 'as initialized; the source has no last norm on tokens',
    r'cls_token|position_embedding\.cls_row|register_tokens': (
        'as initialized; the source has none'
    ),
    r'blocks\.\d+\.attn\.(bias\.(a|sigma)|rel_pos\..*)': (
        'as initialized; the source has no such bias'
    ),
}
# Parts that a backbone has no place for, and what gives it one.
_SETTINGS = {
    '.attn.bias.': 'gaussian_bias',
    '.rel_pos.mlp.': "relative_position='mlp'",
    '.rel_pos.rows': "relative_position='decomposed'",
    '.qkv.bias': 'qkv_bias=True',
    'spatial_prior.': "type='mmpvg.MPVGViTAdapter'",
    '.stream_norm.': "type='mmpvg.CompactViT'",
    '.norm2.': "type='mmpvg.MPVGViT'",
}


def fit(
    source: SourceViT,
    backbone: PlainViT,
    grid: Grid | None = None,
    pe_norms: str = 'zero',
) -> tuple[dict[str, Tensor], LoadReport]:
    """Make a whole state dict for a backbone out of a ViT of another project.

    Args:
        source: The ViT; not changed.
        backbone: The network to be filled; not changed.
        grid: Grid (h, w) of the source's position embedding (PE), if it is not a square and the
            source does not say.
        pe_norms: What PE norms that the source lacks start from. ``zero``: weight and bias 0, so
            that nothing is delivered at first. ``one``: as a new LayerNorm.

    Returns:
        The state dict, complete for ``load_state_dict`` except for the size of the PE table, which
        the backbone resizes itself; and the report.

    Raises:
        ValueError: If widths, depths, channels, tokens, PE or norms do not fit, or a value is not
            finite. The message names the value and the fix.
    """
    check_pe_norms(pe_norms)
    fitting = _Fitting(source, backbone)
    fitting.check_size()
    fitting.check_finite()
    fitting.drop_unbuilt()
    fitting.fit_patch_kernel()
    fitting.fit_tokens(grid or source.grid)
    fitting.start_pe_norms(pe_norms)
    fitting.start_layer_scale()
    fitting.take_equal()
    fitting.start_missing()
    return fitting.done, fitting.report


def check_pe_norms(pe_norms: str) -> None:
    """Raise a ``ValueError`` for an unknown start of PE norms."""
    if pe_norms not in PE_NORM_STARTS:
        raise UserError(f"pe_norms must be 'zero' or 'one', got {pe_norms!r}")


class _Fitting:
    """The steps of ``fit``; each moves tensors from what is left to what is done."""

    def __init__(self, source: SourceViT, backbone: PlainViT) -> None:
        self.source, self.backbone = source, backbone
        self.left = dict(source.tensors)
        self.done: dict[str, Tensor] = {}
        self.target: dict[str, Tensor] = backbone.state_dict()
        heads = f'{backbone.arch.num_heads}, as the source has'
        if source.num_heads is None:
            heads = (
                f"{backbone.arch.num_heads}, taken from this backbone's arch, since the file does "
                "not say: if it was trained with others, as MoCo v3's ViT-S with 12, set num_heads "
                'in arch=dict(...)'
            )
        self.report = LoadReport(
            source.label,
            source.family,
            heads,
            ignored=dict(source.ignored),
            notes=list(source.notes),
            pixels=source.pixels,
        )

    def fail(self, message: str) -> UserError:
        return UserError(f'{self.source.label} does not fit: {message}')

    def ignore(self, name: str, reason: str) -> None:
        del self.left[name]
        self.report.ignored[name] = reason

    def check_size(self) -> None:
        arch = self.backbone.arch
        dims, depth, heads = self.source.dims, self.source.depth, self.source.num_heads
        hidden, ratio = self.left.get('blocks.0.mlp.fc1.weight'), arch.mlp_ratio
        if hidden is not None:
            ratio = hidden.shape[0] / dims
            narrowed = self.left.get('blocks.0.mlp.fc2.weight')
            if narrowed is not None and hidden.shape[0] != narrowed.shape[1]:
                raise self.fail('its MLP is gated (SwiGLU), which this backbone does not have')
        if heads not in (None, arch.num_heads):
            raise self.fail(
                f'it has {heads} attention heads, this backbone {arch.num_heads}; set arch=dict('
                f'embed_dims={dims}, num_layers={depth}, num_heads={heads}, mlp_ratio={ratio:g})'
            )
        # A checkpoint of ours may lack blocks after its last tap.
        deep_enough = depth in (arch.num_layers, len(self.backbone.blocks))
        same_mlp = int(ratio * dims) == int(arch.mlp_ratio * dims)
        if dims == arch.embed_dims and deep_enough and same_mlp:
            return
        names = [n for n, a in VIT_ARCHS.items() if (a.embed_dims, a.num_layers) == (dims, depth)]
        fix = f"arch='{names[0]}'" if names else 'an arch dict of that size'
        raise self.fail(
            f'it is {dims} wide with {depth} blocks and an MLP ratio of {ratio:g}, this backbone '
            f'{arch.embed_dims} wide with {arch.num_layers} and {arch.mlp_ratio:g}; set {fix}'
        )

    def check_finite(self) -> None:
        bad = [n for n, t in self.left.items() if not torch.isfinite(t.float()).all()]
        if bad:
            more = f' and {len(bad) - 3} more' if len(bad) > 3 else ''
            raise self.fail(f'values that are not finite in {", ".join(bad[:3])}{more}')

    def drop_unbuilt(self) -> None:
        """Leave out what comes after the last tap."""
        built = len(self.backbone.blocks)
        ends: tuple[str, ...] = ('norm.',) if self.backbone.norm is None else ()
        if not self.backbone.takes_last_pe():
            ends += ('pe_delivery.last_norm.',)
        for name in list(self.left):
            match = re.match(r'(?:blocks|pe_delivery\.block_norms)\.(\d+)\.', name)
            if match and int(match[1]) >= built:
                self.ignore(name, f'comes after the last tap, block {built - 1}')
            elif name.startswith(ends):
                self.ignore(name, 'this backbone ends before the last norm')

    def fit_patch_kernel(self) -> None:
        name = 'patch_embed.proj.weight'
        kernel, wanted = self.left[name], self.target[name]
        have, channels = kernel.shape[1], wanted.shape[1]
        changes = []
        if have != channels:
            if have != 3:
                raise self.fail(
                    f'its patches have {have} channels; set in_channels={have} (got {channels})'
                )
            kernel = adapt_channels(kernel, channels)
            how = 'summed' if channels == 1 else f'repeated and scaled by 3/{channels}'
            changes.append(f'{have} -> {channels} channels, {how} as timm does')
        resized = resize_patch_kernel(kernel, (wanted.shape[2], wanted.shape[3]))
        if resized.shape != kernel.shape:
            old, new = (f'{t.shape[2]}x{t.shape[3]}' for t in (kernel, resized))
            changes.append(f'{old} -> {new} pixels')
        if changes:
            self.report.resized[name] = '; '.join(changes)
        self.left[name] = resized

    def fit_tokens(self, grid: Grid | None) -> None:
        """Class token, registers, and the PE's table and rows."""
        left = self.left
        rows: dict[str, Tensor] = {}
        guessed = False
        if (flat := left.pop('pos_embed', None)) is not None:
            guessed = grid is None and flat.ndim == 3
            ours = self.backbone.position_embedding
            rows, left[_TABLE] = self.source.split_pe(grid, None if ours is None else ours.grid)
            if 'cls_token' in rows and 'cls_token' not in left:
                reason = 'belongs to a class token that the source does not have'
                self.report.ignored['pos_embed, row 0'] = reason
        if 'dist_token' in rows and any('.block_norms.' in name for name in left):
            # Added to a register, the row would not go through the chain of PE norms.
            if self.backbone.register_tokens is not None:
                raise self.fail(
                    'it delivers the position embedding to a distillation token too, which this '
                    "backbone's registers do not receive; set num_registers=0 to leave it out"
                )
        # With its PE row added, a distillation token or a register is a register without a PE.
        registers = [
            left.pop(name) + rows.get(name, 0)
            for name in ('dist_token', 'register_tokens')
            if name in left
        ]
        if registers:
            left['register_tokens'] = torch.cat(registers, dim=1)
        if 'cls_token' in left and self.backbone.cls_token is not None:
            if _CLS_ROW in self.target and _CLS_ROW not in left:
                left[_CLS_ROW] = rows.get('cls_token', torch.zeros_like(left['cls_token']))
        elif 'cls_token' in left:
            for name in ('cls_token', _CLS_ROW):
                if name in left:
                    self.ignore(name, 'with_cls_token=False; the source was trained with one')
        self._fit_registers()
        self._fit_table(rows.get('cls_token'))
        if guessed and _TABLE in left:
            h, w = left[_TABLE].shape[1:3]
            self.report.notes.append(
                f'its {h * w} PE rows of patches are taken as {h}x{w} patches, since the file does '
                'not say; otherwise set grid=(h, w)'
            )

    def _fit_registers(self) -> None:
        name = 'register_tokens'
        given = self.left[name].shape[1] if name in self.left else 0
        wanted = self.target[name].shape[1] if name in self.target else 0
        if given and wanted and given != wanted:
            raise self.fail(f'it has {given} registers; set num_registers={given} (got {wanted})')
        if given and not wanted:
            self.ignore(
                name, f'num_registers=0; the source was trained with {given} (distillation counts)'
            )

    def _fit_table(self, cls_row: Tensor | None) -> None:
        ours: Any = self.backbone.position_embedding
        if _TABLE in self.target and _TABLE in self.left:
            (h, w), (h_new, w_new) = (d[_TABLE].shape[1:3] for d in (self.left, self.target))
            if (h, w) != (h_new, w_new):
                self.report.resized[_TABLE] = (
                    f'{h}x{w} -> {h_new}x{w_new} patches, {ours.interpolate_mode}'
                )
        elif _TABLE in self.target:
            relative = any('.attn.rel_pos.' in name for name in self.left)
            raise self.fail(
                'it has no learned position embedding (rotary ones, as in DINOv3, are not read)'
                + ("; set pe_type=None, pe_delivery='none'" if relative else '')
            )
        elif _TABLE in self.left:
            self._check_sinusoid(self.left.pop(_TABLE), cls_row)
        elif ours is not None:
            self.report.notes.append(
                'the source has no position embedding of its own: unless it had this very '
                'sinusoid, the network is another one'
            )

    def _check_sinusoid(self, table: Tensor, cls_row: Tensor | None) -> None:
        """Let go a table that the backbone computes itself; refuse any other."""
        ours = self.backbone.position_embedding
        pe_type = find_sinusoid(table, cls_row)
        if pe_type is None or ours is None:
            raise self.fail(
                "it has a learned position embedding, or a sinusoid of other channels (MAE's and "
                "MoCo v3's are ordered otherwise); set pe_type='learnable', which keeps every value"
            )
        unused = cls_row is None or ours.cls_row is None
        if not same_rows(ours.table, table) or not (unused or same_rows(ours.cls_row, cls_row)):
            h, w = table.shape[1:3]
            patch = self.backbone.patch_embed.patch_size
            raise self.fail(
                f'its position embedding is the {pe_type} of {h}x{w} patches'
                f"{'' if cls_row is None else ' and a class token'}, this backbone's is another: "
                f"set pe_type='{pe_type}', img_size=({h * patch}, {w * patch}), which is nothing "
                f"but the table's size, and with_cls_token={cls_row is not None}"
            )
        self.report.ignored['pos_embed'] = f'is the {pe_type} that this backbone computes itself'

    def start_pe_norms(self, start: str) -> None:
        """Start the PE norms that the source lacks; refuse those that have no place."""
        given = {name for name in self.left if _PE_NORM.fullmatch(name)}
        wanted = {name for name in self.target if _PE_NORM.fullmatch(name)}
        new = wanted - given
        # In a chain of norms, none can be left out or put in.
        broken = any('block_norms' in n for n in new) and any('block_norms' in n for n in given)
        if given - wanted or broken:
            raise self.fail(
                f'it delivers the position embedding to {_receivers(given)}, this backbone to '
                f'{_receivers(wanted)}; set the pe_delivery that it was trained with'
            )
        for name in sorted(new):
            at_one = start == 'one' and name.endswith('.weight')
            self.left[name] = torch.full_like(self.target[name], float(at_one))
            self.report.new[name] = f'starts as {start}; the source has no such PE norm'
        if new and not self.backbone.pe_delivery.plan.at_input:
            self.report.notes.append(
                'this delivery adds no position embedding at the input, where the source has it: '
                'the network is not the source at first, and has to learn from its PE norms'
            )
        elif new and start == 'zero':
            self.report.notes.append(
                'the new PE norms deliver nothing at first: they change nothing until trained'
            )

    def start_layer_scale(self) -> None:
        name = 'blocks.0.ls1.gamma'
        # Of an adapter's checkpoint in a plain ViT, take_equal names the type that it needs.
        adapter_in_plain = any(n.startswith('spatial_prior.') for n in self.left) and not any(
            n.startswith('spatial_prior.') for n in self.target
        )
        if name in self.left and name not in self.target and not adapter_in_plain:
            raise self.fail(
                'it has LayerScale; set layer_scale_init_value=1.0 (its own factors are loaded)'
            )
        if name in self.target and name not in self.left:
            for name, value in self.target.items():
                if re.fullmatch(r'blocks\.\d+\.ls[12]\.gamma', name):
                    self.left[name] = torch.ones_like(value)
                    self.report.new[name] = 'starts as one, which changes nothing'

    def take_equal(self) -> None:
        for name in [name for name in self.left if name in self.target]:
            tensor, wanted = self.left.pop(name), self.target[name]
            if name != _TABLE and tensor.shape != wanted.shape:
                fix = ''
                if re.search(r'\.rel_pos\.(rows|columns)$', name):
                    fix = (
                        f'; it is for {(tensor.shape[0] + 1) // 2} patches along that axis: set '
                        'window_size, or, in a global block, grid of relative_position, to it'
                    )
                raise self.fail(
                    f'{name} has shape {tuple(tensor.shape)}, this backbone needs '
                    f'{tuple(wanted.shape)}{fix}'
                )
            self.done[name] = tensor.to(wanted.dtype)
            if name not in self.report.new:
                self.report.loaded[name] = tensor.numel()
        if self.left:
            found = [s for part, s in _SETTINGS.items() if any(part in n for n in self.left)]
            fix = f'; set its {" and ".join(found)}' if found else ''
            raise self.fail(f'no place for {", ".join(list(self.left)[:4])}{fix}')

    def start_missing(self) -> None:
        missing = []
        for name, value in self.target.items():
            if name in self.done:
                continue
            reason = next((r for p, r in _STARTS.items() if re.fullmatch(p, name)), None)
            if name.split('.')[0] in self.backbone.extra_modules:
                reason = 'as initialized; the source is a ViT without it'
            if reason is None:
                missing.append(name)
                continue
            self.done[name] = torch.zeros_like(value) if reason == _NO_BIAS else value
            self.report.new[name] = reason
        if missing:
            raise self.fail(
                f'it lacks {len(missing)} parts of a ViT: {", ".join(missing[:4])}'
                f'{", ..." if missing[4:] else ""}'
            )


def _receivers(pe_norms: set[str]) -> str:
    """Who receives the PE through these norms."""
    matches = [match for name in pe_norms if (match := _PE_NORM.fullmatch(name))]
    blocks = sorted({int(match[2]) for match in matches if match[2]})
    receivers = [f'blocks {blocks[0]} to {blocks[-1]}'] if blocks else []
    if any(match[2] is None for match in matches):
        receivers.append('the last norm')
    return ' and '.join(receivers) or 'the input alone'

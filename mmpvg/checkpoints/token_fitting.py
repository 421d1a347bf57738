"""Fitting tokens and their position embedding (PE) to a backbone."""

from __future__ import annotations

import torch
from torch import Tensor

from mmpvg.utils.errors import UserError

from ..models.backbones import PlainViT
from .report import LoadReport
from .resize import Grid, split_rows
from .sinusoids import find_sinusoid, same_rows
from .source import SourceViT

PE = 'position_embedding.'


class TokenFitting:
    """The state of a fitting, and the steps for class token, registers and PE.

    Args:
        source: The ViT; not changed.
        backbone: The network to be filled; not changed.
        grid: Grid (h, w) of the source's PE, where rows alone do not tell.
    """

    def __init__(self, source: SourceViT, backbone: PlainViT, grid: Grid | None):
        self.source = source
        self.backbone = backbone
        self.grid = grid or source.grid
        self.left = dict(source.tensors)
        self.done: dict[str, Tensor] = {}
        self.target = backbone.state_dict()
        self.report = LoadReport(
            source.label,
            source.family,
            heads=_tell_heads(source, backbone.arch.num_heads),
            ignored=dict(source.ignored),
            notes=list(source.notes),
            pixels=source.pixels,
        )

    def _fail(self, message: str) -> UserError:
        return UserError(f'{self.source.label} does not fit: {message}')

    def _ignore(self, name: str, reason: str) -> None:
        del self.left[name]
        self.report.ignored[name] = reason

    def _fit_tokens(self) -> None:
        """Class token, registers, and the PE's table and rows."""
        left = self.left
        registers = left.get('register_tokens')
        tokens = [name for name in ('cls_token', 'dist_token') if name in left]
        extra = (*tokens, *['register_tokens'] * (0 if registers is None else registers.shape[1]))
        rows: dict[str, Tensor] = {}
        guessed = False
        if 'pos_embed' in left:
            guessed = self.grid is None and left['pos_embed'].ndim == 3
            rows, table = self._split(left.pop('pos_embed'), extra)
            left[PE + 'table'] = table
            rows = {name: row for name, row in rows.items() if row.shape[1]}
            if 'cls_token' in rows and 'cls_token' not in left:
                reason = 'belongs to a class token that the source does not have'
                self.report.ignored['pos_embed, row 0'] = reason
        if 'dist_token' in rows and any('.block_norms.' in name for name in left):
            # Of a register, the row would be part of the token and not of the chain.
            if self.backbone.register_tokens is not None:
                raise self._fail(
                    'it delivers the position embedding to a distillation token too, which this '
                    "backbone's registers do not receive; set num_registers=0 to leave it out"
                )
        # A token of whatever kind that has no PE of its own is a register once its row is added.
        parts = [
            left.pop(name) + rows.get(name, 0)
            for name in ('dist_token', 'register_tokens')
            if name in left
        ]
        if parts:
            left['register_tokens'] = torch.cat(parts, dim=1)
        if 'cls_token' in left and self.backbone.cls_token is not None:
            if PE + 'cls_row' in self.target and PE + 'cls_row' not in left:
                left[PE + 'cls_row'] = rows.get('cls_token', torch.zeros_like(left['cls_token']))
        elif 'cls_token' in left:
            reason = 'with_cls_token=False; the source was trained with one'
            self._ignore('cls_token', reason)
            if PE + 'cls_row' in left:
                self._ignore(PE + 'cls_row', reason)
        self._check_registers()
        self._check_table(rows.get('cls_token'))
        if guessed and PE + 'table' in left:
            h, w = left[PE + 'table'].shape[1:3]
            self.report.notes.append(
                f'its {h * w} PE rows of patches are taken as {h}x{w} patches, since the file does '
                'not tell; otherwise set grid=(h, w)'
            )

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

    def _check_table(self, cls_row: Tensor | None) -> None:
        name = PE + 'table'
        learnable = name in self.target
        if learnable and name not in self.left:
            relative = any('.attn.rel_pos.' in n for n in self.left)
            fix = "; set pe_type=None, pe_delivery='none'" if relative else ''
            raise self._fail(
                'it has no learned position embedding (rotary ones, as in DINOv3, are not read)'
                + fix
            )
        if not learnable and name in self.left:
            self._check_sinusoid(self.left.pop(name), cls_row)
            return
        if self.backbone.position_embedding is None:
            return
        if not learnable:
            self.report.notes.append(
                'the source has no position embedding of its own: unless it had this very '
                'sinusoid, the network is another one'
            )
            return
        have, wanted = self.left[name].shape[1:3], self.target[name].shape[1:3]
        if have != wanted:
            mode = self.backbone.position_embedding.interpolate_mode
            self.report.resized[name] = (
                f'{have[0]}x{have[1]} -> {wanted[0]}x{wanted[1]} patches, {mode}'
            )

    def _check_sinusoid(self, table: Tensor, cls_row: Tensor | None) -> None:
        """Let go a table that the backbone computes itself; refuse any other."""
        ours = self.backbone.position_embedding
        pe_type = find_sinusoid(table, cls_row)
        if pe_type is None or ours is None:
            raise self._fail(
                "it has a learned position embedding, or a sinusoid of other channels (MAE's and "
                "MoCo v3's are ordered otherwise); set pe_type='learnable', which keeps every value"
            )
        unused = cls_row is None or ours.cls_row is None
        if not same_rows(ours.table, table) or not (unused or same_rows(ours.cls_row, cls_row)):
            h, w = table.shape[1:3]
            patch = self.backbone.patch_embed.patch_size
            raise self._fail(
                f'its position embedding is the {pe_type} of {h}x{w} patches'
                f"{'' if cls_row is None else ' and a class token'}, this backbone's is another: "
                f"set pe_type='{pe_type}', img_size=({h * patch}, {w * patch}), which is nothing "
                f"but the table's size, and with_cls_token={cls_row is not None}"
            )
        self.report.ignored['pos_embed'] = f'is the {pe_type} that this backbone computes itself'


def _tell_heads(source: SourceViT, num_heads: int) -> str:
    if source.num_heads is not None:
        return f'{num_heads}, as the source has'
    return (
        f"{num_heads}, taken from this backbone's arch, since the file does not tell: if it was "
        "trained with others, as MoCo v3's ViT-S with 12, set num_heads in arch=dict(...)"
    )

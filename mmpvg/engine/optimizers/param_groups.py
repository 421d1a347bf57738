"""Lists the parameters that an optimizer trains, with learning rates and weight decay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer

from mmpvg.engine.config.backbone import find_layered_backbone
from mmpvg.utils.errors import UserError


@dataclass
class ParamGroupRow:
    """Parameters of one depth, learning rate and weight decay.

    Attributes:
        depth: Depth in the backbone, 0 for the stem, the last for the last norm and all that comes
            after the backbone; None in a model without a backbone that gives depths.
        lr: Learning rate; None for frozen parameters.
        weight_decay: Weight decay; None for frozen parameters.
        names: Names of the parameters.
        values: Number of values in them.
    """

    depth: int | None
    lr: float | None
    weight_decay: float | None
    names: list[str] = field(default_factory=list)
    values: int = 0


def param_group_rows(model: nn.Module, optimizer: Optimizer) -> list[ParamGroupRow]:
    """Sort the parameters of a model by depth, learning rate and weight decay.

    Args:
        model: The model.
        optimizer: An optimizer of its parameters.

    Returns:
        Rows from the stem on; within a depth those with weight decay first, frozen ones last.

    Raises:
        ValueError: If a trainable parameter is in no group or in several, a frozen one in several,
            or a group holds a parameter that is not the model's; the message names all of them. Or
            if several backbones give depths.
    """
    groups: dict[int, list[dict]] = {}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            groups.setdefault(id(parameter), []).append(group)
    prefix, backbone = find_layered_backbone(model)
    rows: dict[tuple, ParamGroupRow] = {}
    wrong = []
    for name, parameter in model.named_parameters():
        of_parameter = groups.pop(id(parameter), [])
        # mmengine's default constructor passes frozen parameters too; no step changes them.
        allowed = (1,) if parameter.requires_grad else (0, 1)
        if len(of_parameter) not in allowed:
            wrong.append(f'{name} (in {len(of_parameter)})')
            continue
        depth = None if backbone is None else backbone.get_layer_depth(name, prefix)[0]
        lr, decay = None, None
        if parameter.requires_grad:
            lr, decay = of_parameter[0]['lr'], of_parameter[0].get('weight_decay', 0.0)
        row = rows.setdefault((depth, lr, decay), ParamGroupRow(depth, lr, decay))
        row.names.append(name)
        row.values += parameter.numel()
    if wrong or groups:
        foreign = f'; {len(groups)} parameters are not of the model' if groups else ''
        raise UserError(
            f'{len(wrong)} parameters are not in exactly one optimizer group: '
            f'{", ".join(wrong)}{foreign}'
        )
    return sorted(rows.values(), key=lambda r: (r.depth or 0, r.lr is None, -(r.weight_decay or 0)))


def format_param_groups(rows: Sequence[ParamGroupRow], base_lr: float) -> str:
    """Format the rows as a Markdown table, names of a kind joined.

    Args:
        rows: The rows.
        base_lr: Learning rate of the optimizer, which those of the rows are divided by.
    """
    lines = [
        '| depth | lr | of the base | weight decay | tensors | values | parameters |',
        '|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        trained = ('frozen', '-', '-')
        if row.lr is not None:
            trained = (f'{row.lr:.3g}', f'{row.lr / base_lr:.3g}', f'{row.weight_decay:g}')
        depth = '-' if row.depth is None else str(row.depth)
        cells = [depth, *trained, str(len(row.names)), f'{row.values:,}', kinds(row.names)]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def kinds(names: Sequence[str]) -> str:
    """Join names: whole modules outside the backbone, modules and blocks inside it."""
    joined: dict[str, None] = {}
    for name in names:
        match = re.match(r'(?:.*?\.)?(?:blocks|block_norms)\.\d+', name)
        parts = name.split('.')
        # A part of a sequence says nothing without what is in it.
        shown = 2 if parts[0] == 'backbone' else 3 if parts[1:2] and parts[1].isdigit() else 1
        kind = match[0] if match else '.'.join(parts[:shown])
        joined[kind if kind == name else f'{kind}.*'] = None
    return ', '.join(joined)

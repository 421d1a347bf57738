"""How the position embedding (PE) reaches the blocks: default, LaPE, PVG, MPVG, and between.

Everything about the PE happens here, before the first block. A block is handed its own entry and
does not know which method is running.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from .norm import LAYER_NORM_EPS, build_layer_norm


@dataclass(frozen=True)
class PEDeliveryPlan:
    """The switches that the papers ablate.

    Notation of the MPVG paper: ``pos`` is the PE table on the image's grid, ``LN_p,l`` the PE norm
    of block l, ``p_l`` what block l receives.

    Attributes:
        at_input: Whether the first block's input is tokens + pos, or the tokens alone.
        first_block: The first block that receives PE through its own norm: 0 for LaPE, 1 for PVG
            and MPVG; None for no layer-wise delivery.
        hierarchical: Whether ``p_l = LN_p,l(p_{l-1})``, starting from pos, or
            ``p_l = LN_p,l(pos)``.
        last_norm: What the last norm receives through a PE norm of its own: ``'pos'`` for the raw
            table (MPVG), a block index k for ``p_k`` (Table "which PE at the last norm"), or None.
    """

    at_input: bool = True
    first_block: int | None = None
    hierarchical: bool = True
    last_norm: str | int | None = None

    @classmethod
    def parse(cls, delivery: str | Mapping | PEDeliveryPlan) -> PEDeliveryPlan:
        """Read a delivery from a config.

        Args:
            delivery: A name in ``PE_DELIVERIES``, or a mapping of the attributes above. A
                mapping may start from a name: ``dict(base='mpvg', hierarchical=False)``.

        Raises:
            ValueError: If a name or key is unknown.
        """
        if isinstance(delivery, cls):
            return delivery
        if isinstance(delivery, str):
            if delivery not in PE_DELIVERIES:
                raise UserError(
                    f'unknown pe_delivery {delivery!r}; choose one of {", ".join(PE_DELIVERIES)}, '
                    'or give a dict of its switches'
                )
            return PE_DELIVERIES[delivery]
        switches = dict(delivery)
        base = cls.parse(switches.pop('base', 'default'))
        known = {field.name: getattr(base, field.name) for field in fields(cls)}
        if unknown := set(switches) - set(known):
            raise UserError(
                f'unknown pe_delivery switch {", ".join(map(repr, sorted(unknown)))}; '
                f'known are base, {", ".join(known)}'
            )
        return cls(**{**known, **switches})

    def check(self, depth: int) -> None:
        """Hold the plan against the depth of a network.

        Raises:
            ValueError: If a block is named that the network does not have, or ``last_norm`` asks
                for the PE of a block that receives none.
        """
        first = self.first_block
        if first is not None and not 0 <= first < depth:
            raise UserError(
                f'pe_delivery first_block={first} is outside the {depth} blocks of this '
                f'network; use 0 to {depth - 1}, or None for no layer-wise PE'
            )
        last = self.last_norm
        if last is None or last == 'pos':
            return
        if isinstance(last, bool) or not isinstance(last, int):
            raise UserError(f"pe_delivery last_norm must be 'pos', a block or None, got {last!r}")
        if first is None or not first <= last < depth:
            receiving = 'none' if first is None else f'blocks {first} to {depth - 1}'
            raise UserError(
                f'pe_delivery last_norm={last} asks for the PE of a block that receives none; '
                f"layer-wise PE goes to {receiving}. Use 'pos', one of those blocks, or None"
            )


PE_DELIVERIES = {
    # ViT, DeiT: once, at the input.
    'default': PEDeliveryPlan(),
    # LaPE, ICCV 2023: to every block through its own norm, not at the input.
    'lape': PEDeliveryPlan(at_input=False, first_block=0),
    # MPVG paper, AAAI 2025: at the input and to every block but the first.
    'pvg': PEDeliveryPlan(first_block=1),
    # MPVG: as PVG, and the raw table to the last norm.
    'mpvg': PEDeliveryPlan(first_block=1, last_norm='pos'),
    # No PE at all, for networks that have relative positions alone.
    'none': PEDeliveryPlan(at_input=False),
}


class DeliveredPE(NamedTuple):
    """Where the PE goes in one forward pass; every tensor has shape (1, N, D), None means no PE."""

    input: Tensor | None
    blocks: list[Tensor | None]
    last_norm: Tensor | None


class PEDelivery(nn.Module):
    """The PE norms, and the chain that runs through them.

    Args:
        plan: Which way the PE travels.
        depth: Number of blocks L of the whole network.
        dims: Channels D.
        num_blocks: How many of the blocks are built, all by default. No norm is made for the
            others, so that no parameter is left unused.
        last_norm: Whether the network has a last norm to deliver to; likewise.
        eps: Of the PE norms.

    Raises:
        ValueError: If the plan does not fit the depth.
    """

    def __init__(
        self,
        plan: PEDeliveryPlan,
        depth: int,
        dims: int,
        num_blocks: int | None = None,
        last_norm: bool = True,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        super().__init__()
        plan.check(depth)
        self.plan = plan
        self.num_blocks = depth if num_blocks is None else num_blocks
        first = depth if plan.first_block is None else plan.first_block
        # Keyed by the block they serve, so that `block_norms.3` belongs to block 3.
        self.block_norms = nn.ModuleDict(
            {str(block): build_layer_norm(dims, eps) for block in range(first, self.num_blocks)}
        )
        deliver_last = last_norm and plan.last_norm is not None
        self.last_norm = build_layer_norm(dims, eps) if deliver_last else None

    @property
    def delivers(self) -> bool:
        """Whether the PE arrives anywhere."""
        return self.plan.at_input or len(self.block_norms) > 0 or self.last_norm is not None

    def forward(self, pos: Tensor) -> DeliveredPE:
        """Run the LayerNorm chain on a PE that is already on the image's grid.

        The resize comes first and the norms second: LN(resize(pos)), which differs from
        resize(LN(pos)) away from the native grid ([open] in the papers).

        Args:
            pos: PE of shape (1, N, D).
        """
        blocks: list[Tensor | None] = [None] * self.num_blocks
        p = pos
        for block, norm in self.block_norms.items():
            p = norm(p if self.plan.hierarchical else pos)
            blocks[int(block)] = p
        last = None
        if self.last_norm is not None:
            source = self.plan.last_norm
            last = self.last_norm(pos if source == 'pos' else blocks[source])
        return DeliveredPE(pos if self.plan.at_input else None, blocks, last)

"""Delivery of the position embedding (PE) to the blocks: default, LaPE, PVG, MPVG, and ablations.

The PE of every block is computed before the first block runs; blocks do not know the method.
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
    """Switches of the delivery, as ablated in the papers.

    In the notation of the MPVG paper ``pos`` is the PE on the grid of the image, ``LN_p,l`` the PE
    LayerNorm of block l, and ``p_l`` the PE that is added in block l.

    Attributes:
        at_input: Whether pos is added to the input of the first block.
        first_block: First block that receives the PE through a PE LayerNorm, as all after it: 0 for
            LaPE, 1 for PVG and MPVG; None for no layer-wise delivery.
        hierarchical: Whether ``p_l = LN_p,l(p_{l-1})``, starting from pos, or
            ``p_l = LN_p,l(pos)``.
        last_norm: What is added after the last LayerNorm, through a PE LayerNorm of its own:
            ``'pos'`` (MPVG), a block index k for ``p_k``, or None.
    """

    at_input: bool = True
    first_block: int | None = None
    hierarchical: bool = True
    last_norm: str | int | None = None

    @classmethod
    def parse(cls, delivery: str | Mapping | PEDeliveryPlan) -> PEDeliveryPlan:
        """Read a plan from a config.

        Args:
            delivery: A name in ``PE_DELIVERIES``, or a mapping of the attributes above, which may
                start from a name: ``dict(base='mpvg', hierarchical=False)``.

        Raises:
            ValueError: If a name or key is unknown.
        """
        if isinstance(delivery, PEDeliveryPlan):
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
        """Check the plan against the depth of a network.

        Raises:
            ValueError: If a block is out of range, or ``last_norm`` names a block without PE.
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
    # ViT, DeiT: at the input alone.
    'default': PEDeliveryPlan(),
    # LaPE, ICCV 2023: in every block, not at the input.
    'lape': PEDeliveryPlan(at_input=False, first_block=0),
    # PVG, AAAI 2025: at the input and in every block but the first.
    'pvg': PEDeliveryPlan(first_block=1),
    # MPVG, AAAI 2025: as PVG, and pos after the last LayerNorm.
    'mpvg': PEDeliveryPlan(first_block=1, last_norm='pos'),
    # For networks with relative positions alone.
    'none': PEDeliveryPlan(at_input=False),
}


class DeliveredPE(NamedTuple):
    """PE of one forward pass: at the input, in every block, after the last LayerNorm.

    Tensors have shape (1, N, D); None is no PE.
    """

    input: Tensor | None
    blocks: list[Tensor | None]
    last_norm: Tensor | None


class PEDelivery(nn.Module):
    """PE LayerNorms, which compute the PE of every block.

    A PE LayerNorm has 2 D parameters. LaPE has one in each of the L blocks, PVG in each but block
    0, and MPVG one more after the last LayerNorm.

    Args:
        plan: The switches of the delivery.
        depth: Number of blocks L of the network.
        dims: Channels D.
        num_blocks: How many of the blocks are built, all by default. The others have no PE
            LayerNorm, so that no parameter is unused.
        last_norm: Whether the PE after the last block is used.
        eps: Epsilon of the PE LayerNorms.

    Raises:
        ValueError: If the plan does not fit the depth.
    """

    def __init__(
        self,
        plan: PEDeliveryPlan,
        depth: int,
        dims: int,
        *,
        num_blocks: int | None = None,
        last_norm: bool = True,
        eps: float = LAYER_NORM_EPS,
    ) -> None:
        super().__init__()
        plan.check(depth)
        self.plan = plan
        self.num_blocks = depth if num_blocks is None else num_blocks
        first = depth if plan.first_block is None else plan.first_block
        # By block, so that `block_norms.3` is that of block 3.
        self.block_norms = nn.ModuleDict(
            {str(block): build_layer_norm(dims, eps) for block in range(first, self.num_blocks)}
        )
        deliver_last = last_norm and plan.last_norm is not None
        self.last_norm = build_layer_norm(dims, eps) if deliver_last else None

    @property
    def delivers(self) -> bool:
        """Whether the PE is used anywhere."""
        return self.plan.at_input or len(self.block_norms) > 0 or self.last_norm is not None

    def forward(self, pos: Tensor) -> DeliveredPE:
        """Compute the PE of every block.

        The PE is resized first, LN(resize(pos)), which differs from resize(LN(pos)) at other grids
        than the native one ([open] in the papers).

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
            last = self.last_norm(blocks[source] if isinstance(source, int) else pos)
        return DeliveredPE(pos if self.plan.at_input else None, blocks, last)

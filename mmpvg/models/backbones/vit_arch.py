"""Sizes of plain vision transformers, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from mmpvg.utils.errors import UserError

T = TypeVar('T')


@dataclass(frozen=True)
class ViTArch:
    """Size of a ViT.

    Attributes:
        embed_dims: Channels D of a token.
        num_layers: Number of blocks L.
        num_heads: Attention heads; divides ``embed_dims``.
        mlp_ratio: Hidden channels of the MLP over ``embed_dims``.
    """

    embed_dims: int
    num_layers: int
    num_heads: int
    mlp_ratio: float = 4.0

    @classmethod
    def parse(cls, arch: str | Mapping | ViTArch) -> ViTArch:
        """Read an arch from a config, a name in ``VIT_ARCHS`` or a mapping of the attributes.

        Raises:
            ValueError: If a name or key is unknown, a key is missing, or a size is not positive.
        """
        if isinstance(arch, ViTArch):
            return arch
        if isinstance(arch, str):
            if arch not in VIT_ARCHS:
                raise UserError(
                    f'unknown arch {arch!r}; choose one of {", ".join(VIT_ARCHS)}, or give a dict '
                    'with embed_dims, num_layers and num_heads'
                )
            return VIT_ARCHS[arch]
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(arch) - set(known))
        missing = sorted(set(known) - {'mlp_ratio'} - set(arch))
        if unknown or missing:
            raise UserError(
                f'arch {dict(arch)} has unknown keys {unknown} and lacks {missing}; '
                f'an arch has {", ".join(known)} (mlp_ratio may be left out)'
            )
        if bad := {key: value for key, value in arch.items() if value <= 0}:
            raise UserError(f'sizes of an arch must be positive, got {bad}')
        return cls(**arch)


def with_deit_names(by_arch: Mapping[str, T]) -> dict[str, T]:
    """Add an alias ``deit-*`` for every ``vit-*``; DeiT and DeiT III have the same sizes."""
    return {**by_arch, **{name.replace('vit-', 'deit-'): v for name, v in by_arch.items()}}


VIT_ARCHS = with_deit_names(
    {
        'vit-tiny': ViTArch(192, 12, 3),
        'vit-small': ViTArch(384, 12, 6),
        'vit-base': ViTArch(768, 12, 12),
        'vit-large': ViTArch(1024, 24, 16),
    }
)

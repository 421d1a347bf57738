"""Average, GeM and GGeM pooling of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmpvg.utils.errors import UserError

from .precision import upcast


class GeneralizedMeanPooling(nn.Module):
    """Generalized mean pooling with one exponent per channel group (GGeM, arXiv 2212.04114).

    For channel c in group g::

        f_c = (mean over tokens t of max(x_tc, eps) ** p_g) ** (1 / p_g)

    One group is GeM, one group per head is GGeM. What the sources of GGeM do not say is [open] and
    chosen here: p starts at 3, as in GeM; eps is 1e-6; groups are contiguous, as the channels of a
    head; and the tokens are pooled after the last LayerNorm of the network.

    Computed in float32 or more, also under autocast, and through logarithms, so that neither values
    nor gradients overflow.

    Args:
        channels: Channels C.
        groups: Number of groups; must divide ``channels``.
        p: Initial exponent, at least 1 ([open]).
        learnable: Whether the exponents are trained, without weight decay.
        eps: Smaller values are clamped to it ([open]).

    Raises:
        ValueError: If ``groups`` does not divide ``channels``, ``p`` is below 1 or ``eps`` is not
            positive.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 1,
        p: float = 3.0,
        *,
        learnable: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise UserError(
                f'{channels} channels cannot be split into {groups} groups of equal size; '
                'use a number that divides them, such as the number of heads'
            )
        if p < 1 or eps <= 0:
            raise UserError(f'p must be at least 1 and eps positive, got p={p}, eps={eps}')
        self.channels = channels
        self.eps = eps
        exponents = torch.full((groups,), float(p))
        if learnable:
            self.p = nn.Parameter(exponents)
        else:
            self.register_buffer('p', exponents)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens.

        Args:
            tokens: Patch tokens of shape (B, N, C), without a class token.

        Returns:
            (B, C), in the type of the tokens.

        Raises:
            ValueError: If the tokens have another width than the module was built for.
        """
        if tokens.ndim != 3 or tokens.shape[2] != self.channels:
            raise UserError(
                f'expected tokens of shape (B, N, {self.channels}), got {tuple(tokens.shape)}'
            )
        with torch.autocast(tokens.device.type, enabled=False):
            p = upcast(self.p).repeat_interleave(self.channels // len(self.p))
            log = upcast(tokens).clamp(min=self.eps).log()
            log_sum = torch.logsumexp(p * log, dim=1)
            return ((log_sum - math.log(tokens.shape[1])) / p).exp().to(tokens.dtype)

    def extra_repr(self) -> str:
        """Show channels, groups and exponents."""
        return f'{self.channels}, groups={len(self.p)}, p={self.p.mean().item():.3g}'


class AveragePooling(nn.Module):
    """Mean over tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool (B, N, C) to (B, C)."""
        return tokens.mean(dim=1)

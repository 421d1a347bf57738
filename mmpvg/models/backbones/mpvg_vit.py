"""Plain ViT backbone with MPVG, PVG, LaPE or the default delivery of the position embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mmpvg.registry import MODELS
from mmpvg.utils.errors import UserError, check_choice

from ..layers.windows import Grid
from .plain_vit import PlainViT
from .vit_arch import ViTArch
from .vit_attention import block_indices

OUT_TYPES = ('featmap', 'cls_token', 'featmap_and_cls_token')


@MODELS.register_module()
class MPVGViT(PlainViT):
    """Plain ViT backbone with layer-wise position embedding (MPVG, PVG, LaPE or default).

    In mmdet, mmseg and mmpretrain configs: ``backbone=dict(type='mmpvg.MPVGViT', ...)``.

    Blocks after the last one of ``out_indices`` are not built. The last LayerNorm is built only if
    the last block of the arch is among them; without it ``mpvg`` is ``pvg``.

    Args:
        arch: Size of the network, see ``PlainViT``.
        img_size: Native image size in pixels, see ``PlainViT``.
        out_indices: Blocks whose outputs are returned, ascending; negative ones count from the end.
        out_type: ``featmap`` for the patches as a map, ``cls_token`` for the class token,
            ``featmap_and_cls_token`` for the pair of both, which mmseg's DPTHead reads.
        final_norm: Whether the last LayerNorm, with MPVG's PE, is applied to the output of the last
            block.
        **kwargs: Further arguments of ``PlainViT``: ``patch_size``, ``pe_delivery``, ``pe_type``,
            ``with_cls_token``, ``window_size``, ``gaussian_bias``, ``drop_path_rate``, ``init_cfg``
            and so on.

    Raises:
        ValueError: If an argument does not fit the others; the message names it and the fix.

    Examples:
        >>> import torch
        >>> from mmpvg.models import MPVGViT
        >>> vit = MPVGViT('deit-tiny', out_indices=(5, 11))
        >>> [tuple(m.shape) for m in vit(torch.rand(1, 3, 224, 500))]
        [(1, 192, 14, 32), (1, 192, 14, 32)]
    """

    def __init__(
        self,
        arch: str | Mapping = 'deit-tiny',
        img_size: int | Sequence[int] = 224,
        *,
        out_indices: int | Sequence[int] = (-1,),
        out_type: str = 'featmap',
        final_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        indices = block_indices(out_indices, ViTArch.parse(arch).num_layers, 'out_indices')
        super().__init__(arch, img_size, num_blocks=indices[-1] + 1, last_norm=final_norm, **kwargs)
        check_choice('out_type', out_type, OUT_TYPES)
        if out_type != 'featmap' and self.cls_token is None:
            raise UserError(f'out_type={out_type!r} needs with_cls_token=True')
        self.out_indices = indices
        self.out_type = out_type

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Compute the outputs of the blocks of ``out_indices``.

        Args:
            x: Images of shape (B, C, H, W), any H and W of at least a patch.

        Returns:
            For each block a contiguous map of shape (B, D, ceil(H / P), ceil(W / P)), the class
            token of shape (B, D), or the pair of both.
        """
        outputs, grid = self.forward_tokens(x)
        return tuple(self._output(tokens, grid) for tokens in outputs)

    def forward_tokens(self, x: Tensor) -> tuple[list[Tensor], Grid]:
        """Compute the tokens after the blocks of ``out_indices``.

        Args:
            x: Images of shape (B, C, H, W), any H and W of at least a patch.

        Returns:
            For each block the tokens of shape (B, R + [1 +] h*w, D): registers, class token,
            patches row by row; and the grid (h, w).
        """
        return self._run_blocks(x, self.out_indices)

    def _output(self, x: Tensor, grid: Grid) -> Tensor | tuple[Tensor, Tensor]:
        """(B, N, D) -> the map (B, D, h, w), the class token (B, D), or both."""
        if self.out_type == 'featmap':
            return self._feature_map(x, grid)
        cls_token = x[:, self.num_extra_tokens - 1]
        if self.out_type == 'cls_token':
            return cls_token
        return self._feature_map(x, grid), cls_token

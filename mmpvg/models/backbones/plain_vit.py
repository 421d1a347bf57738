"""Base class of the plain ViTs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpvg.utils.errors import UserError

from ..layers import (
    LAYER_NORM_EPS,
    Attention,
    Block,
    DeliveredPE,
    PatchEmbed,
    PEDelivery,
    PEDeliveryPlan,
    PositionEmbedding,
    build_layer_norm,
)
from ..layers.windows import Grid
from .vit_arch import ViTArch
from .vit_attention import build_attentions, window_sizes


class PlainViT(BaseModule):
    """Plain vision transformer with layer-wise position embedding (PE), without an output.

    ``MPVGViT``, ``MPVGViTAdapter`` and ``TimmMPVGViT`` are made of it, take all of its arguments
    and add their outputs. The PE is resized to the grid of the image, runs through the LayerNorms
    of the delivery (``mmpvg.models.layers.pe_delivery``), and then the blocks run.

    No parameter is built that the forward pass does not use, so DistributedDataParallel needs no
    ``find_unused_parameters``.

    Args:
        arch: ``vit-tiny``, ``vit-small``, ``vit-base``, ``vit-large`` (``deit-*`` are the same
            sizes), or a dict with ``embed_dims``, ``num_layers``, ``num_heads`` and, if not 4,
            ``mlp_ratio``.
        img_size: Native image size in pixels, a side or (H, W): sets the grid of the PE table.
            Images of any other size are taken.
        patch_size: Side of a patch in pixels, or a pair of equal sides.
        in_channels: Channels of the image.
        pe_delivery: ``default`` (ViT), ``lape`` (LaPE, ICCV 2023), ``pvg`` or ``mpvg`` (MPVG, AAAI
            2025), or a dict of the switches of ``PEDeliveryPlan``, for instance
            ``dict(base='mpvg', hierarchical=False)``. By default ``mpvg``, or ``none`` without a
            PE.
        pe_type: ``learnable``, ``sinusoid_1d`` or ``sinusoid_2d``; None for no PE.
        pe_std: Standard deviation of the truncated normal that a learnable PE starts from.
        interpolate_mode: Mode of ``torch.nn.functional.interpolate`` that resizes the PE, without
            antialiasing or aligned corners: ``bicubic``, ``bilinear``, ``nearest``,
            ``nearest-exact`` or ``area``.
        with_cls_token: Whether a class token takes part in the attention. Needs global attention
            in every block.
        num_registers: Further learnable tokens in the attention, without a PE: registers of DINOv2
            (ICLR 2024), or DeiT's distillation token. Need global attention in every block.
        layer_scale_init_value: Initial value of LayerScale; None for no LayerScale.
        eps: Epsilon of every LayerNorm of the ViT. 1e-6 as DeiT and CeiT; T2T-ViT, Swin, Compact
            Transformers and Segmenter use 1e-5, torch's default.
        window_size: Side of the attention windows in patches; 0 for global attention everywhere.
        global_blocks: Blocks with global attention if ``window_size`` is set. By default the last
            block of each quarter of the depth, as ViTDet: 2, 5, 8, 11 of 12.
        gaussian_bias: Gaussian attention bias (GAB, BMVC 2023): a value of ``per``, or a dict with

            - ``per``: ``head`` for one Gaussian per head, ``block`` for one that the heads of a
              block share.
            - ``blocks``: ``all`` (default), or ``window`` for the blocks with windows, so that
              global attention keeps torch's flash kernel.
            - ``kernel``: ``mask`` (default) adds it as a table of all pairs of tokens; ``flex``
              computes it inside torch's ``flex_attention`` in global blocks on CUDA, and is
              ``mask`` elsewhere. Needs torch 2.6 or later.
        relative_position: Relative position in the attention of every block: a value of ``type``,
            or a dict with

            - ``type``: ``mlp`` as timm's ``vit_relpos_*`` models, or ``decomposed`` as ViTDet.
            - ``grid``: Native grid of the ``decomposed`` tables of global blocks in patches, a side
              or (h, w). By default that of ``img_size``.
        qkv_bias: Whether queries, keys and values have a bias.
        attn_drop_rate: Rate of the dropout of attention weights.
        drop_path_rate: Stochastic depth rate of the last block; it grows linearly from 0.
        frozen_stages: What is frozen, in eval mode and without gradients: -1 for nothing, 0 for the
            patch embedding, the PE and the class and register tokens, k for the first k blocks and
            their PE LayerNorms too; with the last block the last LayerNorm and its PE LayerNorm.
        with_cp: Whether blocks are checkpointed (non-reentrant) while training, to save memory.
        num_blocks: Set by subclasses: how many blocks are built, all by default.
        last_norm: Set by subclasses: whether there is a LayerNorm after the last block.
        init_cfg: Initialization of mmengine, for instance
            ``dict(type='mmpvg.PretrainedViT', checkpoint=...)``, which reads every plain ViT.

    Attributes:
        extra_modules: Names of the parts that a plain ViT does not have; ``PretrainedViT`` leaves
            them as initialized.

    Raises:
        ValueError: If an argument does not fit the others; the message names it and the fix.
    """

    extra_modules: tuple[str, ...] = ()

    def __init__(
        self,
        arch: str | Mapping = 'deit-tiny',
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        in_channels: int = 3,
        *,
        pe_delivery: str | Mapping | None = None,
        pe_type: str | None = 'learnable',
        pe_std: float = 0.02,
        interpolate_mode: str = 'bicubic',
        with_cls_token: bool = False,
        num_registers: int = 0,
        layer_scale_init_value: float | None = None,
        eps: float = LAYER_NORM_EPS,
        window_size: int = 0,
        global_blocks: Sequence[int] | None = None,
        gaussian_bias: str | Mapping | None = None,
        relative_position: str | Mapping | None = None,
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        num_blocks: int | None = None,
        last_norm: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = ViTArch.parse(arch)
        dims, depth = self.arch.embed_dims, self.arch.num_layers
        num_blocks = depth if num_blocks is None else num_blocks
        self.embed_dims = dims
        self.with_cp = with_cp
        windows = window_sizes(window_size, global_blocks, depth)
        if num_registers < 0:
            raise UserError(f'num_registers must be 0 or more, got {num_registers}')
        if (with_cls_token or num_registers) and any(windows):
            raise UserError(
                f'with_cls_token={with_cls_token} and num_registers={num_registers} need global '
                'attention in every block, since such a token lies in no window; set window_size=0 '
                f'(got {window_size}), or with_cls_token=False and num_registers=0'
            )
        if frozen_stages not in range(-1, depth + 1):
            raise UserError(
                f'frozen_stages={frozen_stages!r} must be -1 (nothing), 0 (patch embedding and PE) '
                f'or a number of the {depth} blocks of this network'
            )
        self.frozen_stages = frozen_stages
        if pe_delivery is None:
            pe_delivery = 'none' if pe_type is None else 'mpvg'

        self.patch_embed = PatchEmbed(patch_size, in_channels, dims)
        native_grid = _native_grid(img_size, self.patch_embed.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims)) if with_cls_token else None
        self.register_tokens = (
            nn.Parameter(torch.zeros(1, num_registers, dims)) if num_registers else None
        )
        self.position_embedding = (
            None
            if pe_type is None
            else PositionEmbedding(
                native_grid,
                dims,
                pe_type,
                cls_token=with_cls_token,
                interpolate_mode=interpolate_mode,
                std=pe_std,
            )
        )
        attentions = build_attentions(
            self.arch,
            windows[:num_blocks],
            native_grid,
            gaussian_bias=gaussian_bias,
            relative_position=relative_position,
            qkv_bias=qkv_bias,
            drop_rate=attn_drop_rate,
        )
        self.blocks = nn.ModuleList(
            self._build_block(
                attention, drop_path_rate * block / max(depth - 1, 1), layer_scale_init_value, eps
            )
            for block, attention in enumerate(attentions)
        )
        self.norm = build_layer_norm(dims, eps) if last_norm and num_blocks == depth else None
        self.pe_delivery = PEDelivery(
            PEDeliveryPlan.parse(pe_delivery),
            depth,
            dims,
            num_blocks=num_blocks,
            last_norm=self.takes_last_pe(),
            eps=eps,
        )
        if pe_type is None and self.pe_delivery.delivers:
            raise UserError(
                f'pe_type=None makes no position embedding that pe_delivery={pe_delivery!r} could '
                'deliver; leave pe_delivery out, or set a pe_type'
            )
        if pe_type == 'learnable' and not self.pe_delivery.delivers:
            raise UserError(
                f'pe_delivery={pe_delivery!r} delivers the position embedding nowhere in these '
                f'{num_blocks} blocks, so a learnable one would get no gradient; deliver it '
                "somewhere, or set a fixed pe_type such as 'sinusoid_2d'"
            )
        self.apply(_init_linear)
        for token in self._extra_tokens():
            nn.init.trunc_normal_(token, std=0.02)
        for frozen in self._frozen():
            frozen.requires_grad_(False)
        self.train()

    def _build_block(
        self,
        attention: Attention,
        drop_path_rate: float,
        layer_scale_init_value: float | None,
        eps: float,
    ) -> nn.Module:
        """Build a block; a subclass may build another kind, with the same ``forward``."""
        return Block(
            self.embed_dims,
            attention,
            self.arch.mlp_ratio,
            drop_path_rate,
            layer_scale_init_value,
            eps,
        )

    def train(self, mode: bool = True) -> PlainViT:
        """Set the training mode; frozen parts stay in eval mode."""
        super().train(mode)
        for frozen in self._frozen():
            if isinstance(frozen, nn.Module):
                frozen.eval()
        return self

    def _frozen(self) -> list[nn.Module | Tensor]:
        """What ``frozen_stages`` freezes."""
        if self.frozen_stages < 0:
            return []
        count, delivery = self.frozen_stages, self.pe_delivery
        frozen: list[nn.Module | Tensor | None] = [self.patch_embed, self.position_embedding]
        frozen += [*self._extra_tokens(), *self.blocks[:count]]
        frozen += [norm for block, norm in delivery.block_norms.items() if int(block) < count]
        if count == self.arch.num_layers:
            frozen += [self.norm, delivery.last_norm]
        return [part for part in frozen if part is not None]

    def deliver_pe(self, grid: Grid) -> DeliveredPE:
        """Compute the PE of one forward pass.

        Args:
            grid: (h, w) of the image in patches.

        Returns:
            The PE of every token, (1, R + [1 +] h*w, D): at the input, for every block and at the
            last LayerNorm. Registers have a PE of zero.
        """
        if self.position_embedding is None:
            return DeliveredPE(None, [None] * len(self.blocks), None)
        delivered = self.pe_delivery(self.position_embedding(grid))
        if self.register_tokens is None:
            return delivered
        rows = self.register_tokens.shape[1]

        def pad(pe: Tensor | None) -> Tensor | None:
            return None if pe is None else F.pad(pe, (0, 0, rows, 0))

        at_input, blocks, last_norm = delivered
        return DeliveredPE(pad(at_input), [pad(pe) for pe in blocks], pad(last_norm))

    def _embed(self, x: Tensor) -> tuple[Tensor, Grid, DeliveredPE]:
        """Images (B, C, H, W) -> input of the first block, the grid, and the PE."""
        x, grid = self.patch_embed(x)
        # Under autocast the convolution is half precision. The residual stream is not, with every
        # delivery: adding the PE would lift it, but LaPE adds none.
        x = x.to(self.patch_embed.proj.weight.dtype)
        extra = [token.expand(len(x), -1, -1) for token in self._extra_tokens()]
        x = torch.cat([*extra, x], dim=1) if extra else x
        delivered = self.deliver_pe(grid)
        return x if delivered.input is None else x + delivered.input, grid, delivered

    def _run_blocks(self, x: Tensor, out_indices: Sequence[int]) -> tuple[list[Tensor], Grid]:
        """Images (B, C, H, W) -> tokens after some blocks, (B, R + [1 +] h*w, D), and the grid.

        The output of the last block is normalized and given its PE.
        """
        x, grid, delivered = self._embed(x)
        outputs = []
        for index, block in enumerate(self.blocks):
            x = self._run(block, x, delivered.blocks[index], grid)
            if self.norm is not None and index == len(self.blocks) - 1:
                x = self.norm(x)
                x = x if delivered.last_norm is None else x + delivered.last_norm
            if index in out_indices:
                outputs.append(x)
        return outputs, grid

    def _run(self, module: nn.Module, *args: Any) -> Tensor:
        """Call a module, checkpointed if ``with_cp`` is set."""
        if self.with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False)
        return module(*args)

    def _extra_tokens(self) -> list[nn.Parameter]:
        """The tokens before the patches: registers, class token."""
        return [token for token in (self.register_tokens, self.cls_token) if token is not None]

    @property
    def num_extra_tokens(self) -> int:
        """Number of tokens before the patches."""
        return sum(token.shape[1] for token in self._extra_tokens())

    def _feature_map(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, N, D) -> the patches as a contiguous map (B, D, h, w)."""
        patches = x[:, self.num_extra_tokens :]
        return patches.transpose(1, 2).unflatten(2, grid).contiguous()

    def takes_last_pe(self) -> bool:
        """Whether MPVG's PE after the last block is added."""
        return self.norm is not None

    def no_weight_decay(self) -> set[str]:
        """Own parameters without weight decay; its modules name theirs."""
        return {'cls_token', 'register_tokens'}

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning-rate decay.

        Depth 0 is what comes before the blocks, depth l + 1 block l with its PE LayerNorm, and the
        last depth the last LayerNorm, its PE LayerNorm and whatever comes after the backbone: a
        name that does not start with the prefix, as in mmpretrain.

        Args:
            param_name: Full name of the parameter.
            prefix: Prefix of the backbone's names, for instance ``backbone.``.

        Returns:
            The depth, and the number of depths.

        Raises:
            ValueError: If the name starts with the prefix but is no parameter of this backbone.
        """
        num_depths = len(self.blocks) + 2
        if not param_name.startswith(prefix):
            return num_depths - 1, num_depths
        name = param_name[len(prefix) :]
        if name not in dict(self.named_parameters()):
            raise UserError(f'{name!r} is no parameter of this {type(self).__name__}')
        parts = name.split('.')
        if parts[0] in ('cls_token', 'register_tokens', 'patch_embed', 'position_embedding'):
            return 0, num_depths
        if parts[0] == 'blocks':
            return int(parts[1]) + 1, num_depths
        if parts[:2] == ['pe_delivery', 'block_norms']:
            return int(parts[2]) + 1, num_depths
        return num_depths - 1, num_depths


def _native_grid(img_size: int | Sequence[int], patch_size: int) -> Grid:
    sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(sides) != 2 or min(sides) < patch_size:
        raise UserError(
            f'img_size must be a side or (H, W) of at least a patch ({patch_size} pixels), '
            f'got {img_size}'
        )
    return -(-sides[0] // patch_size), -(-sides[1] // patch_size)


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)

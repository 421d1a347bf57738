"""A plain ViT for dense prediction whose position embedding travels as LaPE, PVG or MPVG say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmpvg.registry import MODELS
from mmpvg.utils.errors import UserError

from ..layers import (
    LAYER_NORM_EPS,
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
from .vit_attention import block_indices, build_attentions, window_sizes

OUT_TYPES = ('featmap', 'cls_token', 'featmap_and_cls_token')


@MODELS.register_module()
class MPVGViT(BaseModule):
    """Vision transformer with layer-wise position embedding (PE).

    In mmdet, mmseg and mmpretrain configs as ``backbone=dict(type='mmpvg.MPVGViT', ...)``. The PE
    is resized to the grid of whatever image arrives, then runs through the LayerNorm chain of the
    delivery, then the blocks run; see ``mmpvg.models.layers.pe_delivery``.

    No parameter is made that the forward pass does not use: blocks after the last tap are not
    built, nor is the last norm unless the arch's last block is tapped (``mpvg`` is then ``pvg``).
    So DistributedDataParallel needs no ``find_unused_parameters``.

    Args:
        arch: ``vit-tiny``, ``vit-small``, ``vit-base``, ``vit-large`` (``deit-*`` are the same
            sizes), or a dict with ``embed_dims``, ``num_layers``, ``num_heads`` and, if not 4,
            ``mlp_ratio``.
        img_size: Native image size, in pixels: a side or (H, W). It sets the grid of the PE table
            and nothing else; any other size may arrive.
        patch_size: Side of a patch, in pixels, or a pair of equal sides.
        in_channels: Channels of the image.
        pe_delivery: ``default`` (ViT), ``lape`` (LaPE, ICCV 2023), ``pvg`` or ``mpvg`` (MPVG, AAAI
            2025), or a dict of the switches of ``PEDeliveryPlan``, for instance
            ``dict(base='mpvg', hierarchical=False)``. By default ``mpvg``, or ``none`` without a
            PE.
        pe_type: ``learnable``, ``sinusoid_1d`` or ``sinusoid_2d``; None for a network without a
            PE.
        interpolate_mode: Mode of ``torch.nn.functional.interpolate`` that resizes the PE, without
            antialiasing or aligned corners: ``bicubic``, ``bilinear``, ``nearest``,
            ``nearest-exact`` or ``area``.
        with_cls_token: Whether a class token takes part in the attention. Needs global attention
            in every block.
        num_registers: Further learnable tokens that take part in the attention, without a PE
            (DINOv2's registers, ICLR 2024; DeiT's distillation token is one as well). Need global
            attention too. They are never among the outputs.
        layer_scale: What the LayerScale of every branch starts from; None for no LayerScale.
        eps: Epsilon of the LayerNorms: of the blocks, the PE norms and the last one. 1e-6 as DeiT;
            Segmenter trains DeiT's weights with 1e-5, torch's default.
        window_size: Side of the attention windows, in patches; 0 for global attention everywhere.
        global_blocks: Blocks with global attention when ``window_size`` is set. By default the
            last block of each quarter of the depth, as ViTDet: 2, 5, 8, 11 of 12.
        gaussian_bias: The Gaussian attention bias of GAB (BMVC 2023): ``block`` for one Gaussian a
            block that its heads share, ``head`` for one a head; None for none.
        gaussian_blocks: Which blocks have it: ``all``, or those with a ``window``. Global attention
            without a bias keeps torch's flash kernel and needs no table of all pairs of tokens.
        gaussian_kernel: ``mask`` adds the Gaussian as a table of all pairs. ``flex`` computes it
            inside torch's ``flex_attention`` in global blocks on CUDA, and is ``mask`` elsewhere.
            It needs torch 2.6 or later.
        relative_position: A relative position in the logits of every block, beside the Gaussian or
            without it: ``mlp`` as timm's ``vit_relpos_*`` models, ``decomposed`` as ViTDet; None
            for none.
        relative_grid: Native grid of the decomposed one in global blocks, in patches: a side or
            (h, w); by default that of ``img_size``. In windows it is the window.
        qkv_bias: Whether queries, keys and values have a bias.
        out_indices: Blocks whose output is a feature map, ascending; negative ones count from the
            end.
        out_type: What a tap gives: ``featmap`` for the map of patches, ``cls_token`` for the class
            token, as classification without pooling needs it, ``featmap_and_cls_token`` for the
            pair of both, which mmseg's DPTHead reads (mmseg's ``output_cls_token=True``).
        final_norm: Whether the last norm, with MPVG's PE, is applied to the last block's output.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        frozen_stages: What is frozen, in eval mode and without gradients: -1 for nothing, 0 for the
            patch embedding, the PE and the class and register tokens, k for the first k blocks
            and their PE norms too. The last norm and its PE norm are frozen with the last block,
            as in mmpretrain.
        with_cp: Whether blocks are checkpointed (non-reentrant) while training, to save memory.
        fused_attention: Whether attention runs torch's fused kernel.
        init_cfg: Initialization of mmengine, for instance
            ``dict(type='mmpvg.PretrainedViT', checkpoint=...)``, which reads every ViT.

    Raises:
        ValueError: If an argument does not fit the others; the message names it and the fix.

    Examples:
        >>> import torch
        >>> from mmpvg.models import MPVGViT
        >>> vit = MPVGViT('deit-tiny', out_indices=(5, 11))
        >>> [tuple(m.shape) for m in vit(torch.rand(1, 3, 224, 500))]
        [(1, 192, 14, 32), (1, 192, 14, 32)]
    """

    # Parts that a plain ViT does not have; a checkpoint of one may lack them.
    beside_the_vit: tuple[str, ...] = ()

    def __init__(
        self,
        arch: str | Mapping = 'deit-tiny',
        img_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        in_channels: int = 3,
        pe_delivery: str | Mapping | None = None,
        pe_type: str | None = 'learnable',
        interpolate_mode: str = 'bicubic',
        with_cls_token: bool = False,
        num_registers: int = 0,
        layer_scale: float | None = None,
        eps: float = LAYER_NORM_EPS,
        window_size: int = 0,
        global_blocks: Sequence[int] | None = None,
        gaussian_bias: str | None = None,
        gaussian_blocks: str = 'all',
        gaussian_kernel: str = 'mask',
        relative_position: str | None = None,
        relative_grid: int | Sequence[int] | None = None,
        qkv_bias: bool = True,
        out_indices: int | Sequence[int] = (-1,),
        out_type: str = 'featmap',
        final_norm: bool = True,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        fused_attention: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = ViTArch.parse(arch)
        dims, depth = self.arch.embed_dims, self.arch.num_layers
        self.embed_dims = dims
        self.with_cp = with_cp
        self.out_indices = block_indices(out_indices, depth, 'out_indices')
        num_blocks = self.out_indices[-1] + 1
        windows = window_sizes(window_size, global_blocks, depth)
        if num_registers < 0:
            raise UserError(f'num_registers must be 0 or more, got {num_registers}')
        if (with_cls_token or num_registers) and any(windows):
            raise UserError(
                f'with_cls_token={with_cls_token} and num_registers={num_registers} need global '
                'attention in every block, since such a token lies in no window; set window_size=0 '
                f'(got {window_size}), or with_cls_token=False and num_registers=0'
            )
        if out_type not in OUT_TYPES:
            raise UserError(f'unknown out_type {out_type!r}; choose one of {", ".join(OUT_TYPES)}')
        if out_type != 'featmap' and not with_cls_token:
            raise UserError(f'out_type={out_type!r} needs with_cls_token=True')
        self.out_type = out_type
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
            else PositionEmbedding(native_grid, dims, pe_type, with_cls_token, interpolate_mode)
        )
        attentions = build_attentions(
            self.arch,
            windows[:num_blocks],
            native_grid if relative_grid is None else relative_grid,
            gaussian_bias=gaussian_bias,
            gaussian_blocks=gaussian_blocks,
            gaussian_kernel=gaussian_kernel,
            relative_position=relative_position,
            qkv_bias=qkv_bias,
            fused=fused_attention,
        )
        self.blocks = nn.ModuleList(
            Block(
                dims,
                attention,
                self.arch.mlp_ratio,
                drop_path_rate * block / max(depth - 1, 1),
                layer_scale,
                eps,
            )
            for block, attention in enumerate(attentions)
        )
        self.norm = build_layer_norm(dims, eps) if final_norm and num_blocks == depth else None
        self.pe_delivery = PEDelivery(
            PEDeliveryPlan.parse(pe_delivery), depth, dims, num_blocks, self.takes_last_pe(), eps
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
        for token in (self.cls_token, self.register_tokens):
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)
        for frozen in self._frozen():
            frozen.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> MPVGViT:
        """Set the training mode; frozen parts stay in eval mode."""
        super().train(mode)
        for frozen in self._frozen():
            if isinstance(frozen, nn.Module):
                frozen.eval()
        return self

    def _frozen(self) -> list[nn.Module | nn.Parameter]:
        """What ``frozen_stages`` freezes."""
        if self.frozen_stages < 0:
            return []
        count, delivery = self.frozen_stages, self.pe_delivery
        frozen = [self.patch_embed, self.position_embedding, *self._extra_tokens()]
        frozen += self.blocks[:count]
        frozen += [norm for block, norm in delivery.block_norms.items() if int(block) < count]
        if count == self.arch.num_layers:
            frozen += [self.norm, delivery.last_norm]
        return [part for part in frozen if part is not None]

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Compute the outputs of the taps.

        Args:
            x: Images of shape (B, C, H, W), any H and W of at least a patch.

        Returns:
            One output per tap: a contiguous map of shape (B, D, ceil(H / P), ceil(W / P)), the
            class token of shape (B, D), or the pair of both.
        """
        taps, grid = self.forward_tokens(x)
        return tuple(self._output(tokens, grid) for tokens in taps)

    def forward_tokens(self, x: Tensor) -> tuple[list[Tensor], Grid]:
        """Compute the tokens of the taps.

        Args:
            x: Images of shape (B, C, H, W), any H and W of at least a patch.

        Returns:
            Tokens of shape (B, R + [1 +] h*w, D) per tap: registers, class token, patches row by
            row; and the grid (h, w).
        """
        x, grid, (_, every_pe, last_pe) = self._embed(x)
        taps = []
        for index, block in enumerate(self.blocks):
            x = self._run(block, x, every_pe[index], grid)
            if index not in self.out_indices:
                continue
            is_last = self.norm is not None and index == self.out_indices[-1]
            taps.append(self._last_norm(x, last_pe) if is_last else x)
        return taps, grid

    def deliver_pe(self, grid: Grid) -> DeliveredPE:
        """Give everything about the PE of one forward pass.

        Args:
            grid: (h, w) of the image, in patches.

        Returns:
            Rows of tokens, (1, R + [1 +] h*w, D): at the input, for every block, at the last norm.
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
        """Images (B, C, H, W) -> what enters the first block, the grid, and the PE of the pass."""
        x, grid = self.patch_embed(x)
        # Under autocast the convolution is half precision. The residual stream is not, with every
        # delivery: adding the PE would lift it, but LaPE adds none.
        x = self._with_extra_tokens(x.to(self.patch_embed.proj.weight.dtype))
        delivered = self.deliver_pe(grid)
        return x if delivered.input is None else x + delivered.input, grid, delivered

    def _run(self, module: nn.Module, *args) -> Tensor:
        """Call a part of the network, checkpointed where that is asked for."""
        if self.with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(module, *args, use_reentrant=False)
        return module(*args)

    def _with_extra_tokens(self, x: Tensor) -> Tensor:
        """(B, h*w, D) -> (B, R + [1 +] h*w, D): registers, class token, patches."""
        extra = self._extra_tokens()
        if not extra:
            return x
        return torch.cat([*(token.expand(x.shape[0], -1, -1) for token in extra), x], dim=1)

    def _extra_tokens(self) -> list[Tensor]:
        return [token for token in (self.register_tokens, self.cls_token) if token is not None]

    def _last_norm(self, x: Tensor, pe: Tensor | None) -> Tensor:
        x = self.norm(x)
        return x if pe is None else x + pe

    def _output(self, x: Tensor, grid: Grid) -> Tensor | tuple[Tensor, Tensor]:
        """(B, N, D) -> the map (B, D, h, w), the class token (B, D), or both."""
        num_patches = grid[0] * grid[1]
        if self.out_type == 'cls_token':
            return x[:, -num_patches - 1]
        featmap = x[:, -num_patches:].transpose(1, 2).unflatten(2, grid).contiguous()
        if self.out_type == 'featmap':
            return featmap
        return featmap, x[:, -num_patches - 1]

    def takes_last_pe(self) -> bool:
        """Whether MPVG's PE has a place at the end of the network."""
        return self.norm is not None

    def no_weight_decay(self) -> set[str]:
        """Own parameters that carry no weight decay, beside those every module names itself."""
        return {'cls_token', 'register_tokens'}

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Tell the depth of a parameter, for layer-wise learning-rate decay.

        Depth 0 holds what comes before the blocks, depth l + 1 block l with its PE norm, and the
        last depth the last norm, its PE norm and whatever comes after the backbone: a name that
        does not start with the prefix, as in mmpretrain.

        Args:
            param_name: Full name of the parameter.
            prefix: What stands before the backbone's own names, for instance ``backbone.``.

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


def _native_grid(img_size: int | Sequence[int], patch_size: int) -> tuple[int, int]:
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

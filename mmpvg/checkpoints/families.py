"""How each source names the parts of a ViT: one small table per source.

A rename maps a source's name to ours, both as in ``re.sub``. Names that are in no table raise: what
a network was trained with is never dropped without a word. Two names are kept for the fitting:
``pos_embed``, the position embedding as it came, and ``dist_token``, DeiT's distillation token.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

_WB = r'\.(weight|bias)'

# Reasons for what is left out on purpose.
_HEAD = 'belongs to the head, not to the backbone'
_POOLED = 'norms the pooled vector, not the tokens'
_MASK = 'is for masked pre-training'
_DECODER = 'belongs to the decoder of masked pre-training'


@dataclass(frozen=True)
class Family:
    """One source's naming.

    Attributes:
        name: What the log calls it.
        marks: Patterns of names; a checkpoint is of this family if it has one of each.
        renames: Pattern of the source's name -> our name.
        ignored: Pattern of the source's name -> why it is left out.
    """

    name: str
    marks: tuple[str, ...]
    renames: Mapping[str, str]
    ignored: Mapping[str, str] = field(default_factory=dict)

    def rename(self, name: str) -> str | None:
        """Our name of a part, None if it has none."""
        for pattern, renamed in self.renames.items():
            if match := re.fullmatch(pattern, name):
                return match.expand(renamed)
        return None

    def why_ignored(self, name: str) -> str | None:
        """Why a part is left out, None if it is not."""
        return next((why for kind, why in self.ignored.items() if re.fullmatch(kind, name)), None)


_TIMM_RENAMES = {
    r'(cls_token|dist_token|pos_embed)': r'\1',
    r'reg_token|register_tokens': 'register_tokens',
    r'patch_embed\.proj' + _WB: r'patch_embed.proj.\1',
    r'blocks\.(\d+)\.(norm1|attn\.qkv|attn\.proj|norm2|mlp\.fc1|mlp\.fc2)' + _WB: (
        r'blocks.\1.\2.\3'
    ),
    r'blocks\.(\d+)\.(ls1|ls2)\.gamma': r'blocks.\1.\2.gamma',
    # SAM's MLP, and its relative position, as detectron2's ViTDet names it.
    r'blocks\.(\d+)\.mlp\.lin([12])' + _WB: r'blocks.\1.mlp.fc\2.\3',
    r'blocks\.(\d+)\.attn\.rel_pos\.mlp\.(fc1|fc2)' + _WB: r'blocks.\1.attn.rel_pos.mlp.\2.\3',
    r'blocks\.(\d+)\.attn\.rel_pos_h': r'blocks.\1.attn.rel_pos.rows',
    r'blocks\.(\d+)\.attn\.rel_pos_w': r'blocks.\1.attn.rel_pos.columns',
    # GAB's training adds its Gaussian to timm's vit_relpos models under these names.
    r'blocks\.(\d+)\.attn\.rel_pos\.sigma_param': r'blocks.\1.attn.bias.sigma',
    r'blocks\.(\d+)\.attn\.rel_pos\.amplitude_param': r'blocks.\1.attn.bias.a',
    r'norm' + _WB: r'norm.\1',
}
_TIMM_IGNORED = {
    r'blocks\.\d+\.attn\.rel_pos\.relative_coords_[HW]': 'is a constant of the Gaussian bias',
    r'(head|head_dist|pre_logits)\..*': _HEAD,
    r'fc_norm\..*': _POOLED,
    r'neck\.\d+\..*': 'belongs to the neck that SAM has after its ViT',
}

# MPVG's own naming is timm's with the PE in two modules; the timm form of ours has a head too.
MMPVG = Family(
    'mmpvg',
    (r'position_embedding\.table|pe_delivery\..*',),
    {
        **_TIMM_RENAMES,
        r'(position_embedding\.(table|cls_row)|pe_delivery\..*)': r'\1',
        r'blocks\.(\d+)\.attn\.bias\.(a|sigma)': r'blocks.\1.attn.bias.\2',
        r'blocks\.(\d+)\.attn\.rel_pos\.(rows|columns)': r'blocks.\1.attn.rel_pos.\2',
        r'blocks\.(\d+)\.stream_norm' + _WB: r'blocks.\1.stream_norm.\2',
        r'((spatial_prior|interactions|up|output_norms)\..*|level_embed)': r'\1',
    },
    {r'(head|pool)\..*': _HEAD},
)
_CONV_NORM = r'\.(weight|bias|running_mean|running_var|num_batches_tracked)'
_INTERACTION = r'interactions\.(\d+)\.'
# ViT-Adapter's parts beside its ViT; ours number from 0.
_ADAPTER_RENAMES = {
    r'level_embed': 'level_embed',
    r'up' + _WB: r'up.\1',
    r'spm\.stem\.(\d+)' + _CONV_NORM: r'spatial_prior.stem.\1.\2',
    **{
        rf'spm\.conv{n + 2}\.(\d+)' + _CONV_NORM: rf'spatial_prior.stages.{n}.\1.\2'
        for n in range(3)
    },
    **{rf'spm\.fc{n + 1}' + _WB: rf'spatial_prior.projections.{n}.\1' for n in range(4)},
    **{rf'norm{n + 1}' + _CONV_NORM: rf'output_norms.{n}.\1' for n in range(4)},
    _INTERACTION + r'injector\.(.+)': r'interactions.\1.injector.\2',
    **{
        rf'{_INTERACTION}{theirs}\.{part}': rf'interactions.\1.extractors.{ours}.{renamed}'
        for theirs, ours in (
            ('extractor', 0),
            (r'extra_extractors\.0', 1),
            (r'extra_extractors\.1', 2),
        )
        for part, renamed in (
            (r'ffn\.dwconv\.dwconv' + _WB, r'mlp.dwconv.\2'),
            (r'ffn\.(fc1|fc2)' + _WB, r'mlp.\2.\3'),
            (r'ffn_norm' + _WB, r'mlp_norm.\2'),
            (r'((?:query_norm|feat_norm|attn)\..+)', r'\2'),
        )
    },
}
VIT_ADAPTER = Family(
    'ViT-Adapter',
    (r'spm\.stem\.0\.weight', r'interactions\.0\.injector\.gamma'),
    {
        **_ADAPTER_RENAMES,
        **_TIMM_RENAMES,
        r'blocks\.(\d+)\.gamma([12])': r'blocks.\1.ls\2.gamma',
    },
    _TIMM_IGNORED,
)
LAPE = Family(
    'LaPE',
    (r'blocks\.\d+\.pe_norm\.weight',),
    {**_TIMM_RENAMES, r'blocks\.(\d+)\.pe_norm' + _WB: r'pe_delivery.block_norms.\1.\2'},
    _TIMM_IGNORED,
)
MAE = Family(
    'MAE',
    (r'decoder_embed\.weight',),
    _TIMM_RENAMES,
    {**_TIMM_IGNORED, r'decoder_.*': _DECODER, r'mask_token': _MASK},
)
DEIT_III = Family(
    'DeiT III',
    (r'blocks\.0\.gamma_1',),
    {**_TIMM_RENAMES, r'blocks\.(\d+)\.gamma_([12])': r'blocks.\1.ls\2.gamma'},
    _TIMM_IGNORED,
)
DINOV2 = Family(
    'DINOv2',
    (r'mask_token', r'blocks\.(\d+\.)?0\.ls1\.gamma'),
    {
        **_TIMM_RENAMES,
        # Its training saves blocks in chunks: blocks.CHUNK.BLOCK.
        r'blocks\.\d+\.(\d+)\.(norm1|attn\.qkv|attn\.proj|norm2|mlp\.fc1|mlp\.fc2)' + _WB: (
            r'blocks.\1.\2.\3'
        ),
        r'blocks\.\d+\.(\d+)\.(ls1|ls2)\.gamma': r'blocks.\1.\2.gamma',
    },
    {**_TIMM_IGNORED, r'mask_token': _MASK},
)
# DeiT, AugReg and most others use timm's names.
TIMM = Family(
    'timm',
    (r'patch_embed\.proj\.weight', r'blocks\.0\.norm1\.weight'),
    _TIMM_RENAMES,
    {**_TIMM_IGNORED, r'mask_token': _MASK},
)

_MM_RENAMES = {
    r'(cls_token|dist_token|pos_embed)': r'\1',
    r'patch_embed\.projection' + _WB: r'patch_embed.proj.\1',
    r'layers\.(\d+)\.ln([12])' + _WB: r'blocks.\1.norm\2.\3',
    r'layers\.(\d+)\.ffn\.layers\.0\.0' + _WB: r'blocks.\1.mlp.fc1.\2',
    r'layers\.(\d+)\.ffn\.layers\.1' + _WB: r'blocks.\1.mlp.fc2.\2',
    r'ln1' + _WB: r'norm.\1',
}
MMPRETRAIN = Family(
    'mmpretrain',
    (r'patch_embed\.projection\.weight', r'layers\.0\.attn\.qkv\.weight'),
    {
        **_MM_RENAMES,
        r'layers\.(\d+)\.attn\.(qkv|proj)' + _WB: r'blocks.\1.attn.\2.\3',
        r'layers\.(\d+)\.attn\.gamma1\.weight': r'blocks.\1.ls1.gamma',
        r'layers\.(\d+)\.ffn\.gamma2\.weight': r'blocks.\1.ls2.gamma',
    },
    {r'ln2\..*': _POOLED, r'mask_token': _MASK},
)
MMSEG = Family(
    'mmseg',
    (r'patch_embed\.projection\.weight', r'layers\.0\.attn\.attn\.in_proj_weight'),
    {
        **_MM_RENAMES,
        r'layers\.(\d+)\.attn\.attn\.in_proj_(weight|bias)': r'blocks.\1.attn.qkv.\2',
        r'layers\.(\d+)\.attn\.attn\.out_proj' + _WB: r'blocks.\1.attn.proj.\2',
    },
)

# The more specific first.
FAMILIES = (MMPVG, VIT_ADAPTER, LAPE, MAE, DEIT_III, DINOV2, TIMM, MMPRETRAIN, MMSEG)

# What files that do not fit look like: a pattern of a name, and what has such names.
_OTHERS = (
    (
        r'.*\.lora_[AB]\..*',
        'LoRA weights of PEFT: merge them into their base with model.merge_and_unload() and save '
        'the state_dict() of that',
    ),
    (r'.*(relative_position_bias_table|\.q_bias)', 'BEiT, EVA or Swin'),
    (r'.*mlp\.w(12|3)\..*', 'a ViT with SwiGLU (DINOv2 giant)'),
    (r'.*(q_norm|k_norm)\..*', 'a ViT that normalizes queries and keys'),
    (r'.*(norm_pre|pre_norm|ln_pre|visual\.conv1)\..*', 'a CLIP ViT (norm before the blocks)'),
    (r'.*embeddings\.patch_embeddings\..*', 'a transformers ViT; try timm://NAME'),
    (r'(.*\.)?layer[1-4]\.0\.conv1\.weight', 'a ResNet'),
    (r'.*(dwconv|depthwise_conv)\..*', 'a ConvNeXt'),
)  # fmt: skip


def find_family(names: Collection[str]) -> Family | None:
    """The first family of ``FAMILIES`` whose marks are all among the names."""
    for family in FAMILIES:
        if all(any(re.fullmatch(mark, name) for name in names) for mark in family.marks):
            return family
    return None


def looks_like(names: Collection[str]) -> str:
    """What has such names, for those that fit no family or are in no table."""
    for pattern, what in _OTHERS:
        if any(re.fullmatch(pattern, name) for name in names):
            return f'it looks like {what}'
    return 'its names start with ' + ', '.join(list(names)[:4])

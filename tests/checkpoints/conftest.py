"""Small ViTs of other projects with random weights, in their own layouts."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer

from mmpvg.models import MPVGViT

# Wide enough that no two axes of a tensor are equal by chance.
ARCH = dict(embed_dims=48, num_layers=3, num_heads=3)


def randomize(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for param in module.parameters():
        param.data.normal_(std=0.1, generator=generator)
    return module.eval()


@pytest.fixture
def make_timm():
    """A small ViT of timm's with random weights."""

    def make(img_size=64, patch_size=16, **kwargs):
        model = VisionTransformer(
            img_size=img_size, patch_size=patch_size, embed_dim=48, depth=3, num_heads=3,
            num_classes=10, **kwargs,
        )  # fmt: skip
        return randomize(model)

    return make


@pytest.fixture
def make_vit():
    """Our backbone of the same size, differently initialized."""

    def make(**kwargs):
        kwargs = dict(arch=ARCH, img_size=64, pe_delivery='default', with_cls_token=True) | kwargs
        return randomize(MPVGViT(**kwargs), seed=1)

    return make


@pytest.fixture
def rename():
    """Gives the names of a state dict another layout, rule by rule."""

    def apply(state, *rules):
        for pattern, new in rules:
            state = {re.sub(pattern, new, name): value for name, value in state.items()}
        return state

    return apply


@pytest.fixture
def oracle():
    """What timm's ViT computes for an image of whatever size: the patches, as a map.

    The table is resized here by torch's own function, without antialiasing, as the recipes of dense
    prediction do it; timm's own resize antialiases.
    """

    def compute(model, image):
        native = model.patch_embed.grid_size
        table = model.pos_embed.data
        extra = table.shape[1] - native[0] * native[1]
        model = copy.deepcopy(model)
        model.set_input_size(tuple(image.shape[2:]))
        grid = model.patch_embed.grid_size
        patches = table[:, extra:].unflatten(1, native).permute(0, 3, 1, 2)
        patches = F.interpolate(patches, size=grid, mode='bicubic', align_corners=False)
        rows = torch.cat([table[:, :extra], patches.flatten(2).transpose(1, 2)], dim=1)
        model.pos_embed = torch.nn.Parameter(rows)
        with torch.no_grad():
            tokens = model.forward_features(image)[:, model.num_prefix_tokens :]
        return tokens.transpose(1, 2).unflatten(2, grid)

    return compute

"""Networks with random parameters."""

import pytest
import torch

from mmpvg.models import MPVGViT, MPVGViTAdapter


@pytest.fixture
def randomized():
    """Build an MPVGViT with random parameters, so that an unused or swapped one is noticed."""

    def build(**kwargs):
        torch.manual_seed(0)
        vit = MPVGViT(**kwargs).eval()
        for param in vit.parameters():
            torch.nn.init.normal_(param, std=0.1)
        return vit

    return build


@pytest.fixture
def randomized_adapter():
    """Build an MPVGViTAdapter with random parameters and statistics."""

    def build(**kwargs):
        torch.manual_seed(0)
        arch = dict(embed_dims=48, num_layers=4, num_heads=3)
        model = MPVGViTAdapter(arch, norm_cfg=dict(type='BN'), conv_channels=8, **kwargs).eval()
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                torch.nn.init.normal_(value, std=0.1)
            if name.endswith(('running_var', 'output_norms.0.weight')):
                value.abs_().add_(0.5)
        return model

    return build

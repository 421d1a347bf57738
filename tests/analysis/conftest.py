"""Small networks to look into."""

import pytest
import torch

from mmpvg.models import MPVGViT


@pytest.fixture
def make_vit():
    """Make a network of three blocks in which no norm is the identity and no bias is zero."""

    def make(pe_delivery='mpvg', **kwargs):
        torch.manual_seed(0)
        arch = dict(embed_dims=16, num_layers=3, num_heads=2)
        kwargs = {**dict(arch=arch, img_size=32, patch_size=8), **kwargs}
        vit = MPVGViT(pe_delivery=pe_delivery, **kwargs).eval()
        with torch.no_grad():
            for parameter in vit.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return vit

    return make


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written meanwhile."""
    from matplotlib.figure import Figure

    written, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        written.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', keep)
    return written

"""Starting ViT-Adapter from a plain ViT, and from an adapter's own checkpoint."""

import pytest
import torch

from mmpvg.checkpoints import PretrainedViT
from mmpvg.models import MPVGViT, MPVGViTAdapter

ARCH = dict(embed_dims=48, num_layers=4, num_heads=3)
ADAPTER = dict(arch=ARCH, conv_channels=8, norm_cfg=dict(type='BN'), img_size=64)


@pytest.fixture
def save(tmp_path):
    def save(model):
        file = tmp_path / f'{type(model).__name__}.pth'
        torch.save(
            {'state_dict': {f'backbone.{n}': v for n, v in model.state_dict().items()}}, file
        )
        return str(file)

    return save


def test_a_plain_vit_fills_the_vit_and_leaves_the_adapter(save):
    vit = MPVGViT(ARCH, img_size=64, pe_delivery='mpvg')
    adapter = MPVGViTAdapter(**ADAPTER, pe_delivery='mpvg')
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    report = PretrainedViT(save(vit))(adapter)
    after = adapter.state_dict()
    for name, value in vit.state_dict().items():
        if not name.startswith('norm.'):
            assert torch.equal(after[name], value), name
    # MPVG's last PE norm has a place, the last norm itself has none.
    assert any(name.startswith('pe_delivery.last_norm.') for name in report.loaded)
    assert {'backbone.norm.weight', 'norm.weight'} & set(report.ignored)
    beside = [name for name in after if name.split('.')[0] in adapter.extra_modules]
    # The adapter's LayerScale, which a DeiT lacks, changes nothing at first.
    gammas = [name for name in after if name.endswith('.gamma') and name.startswith('blocks.')]
    assert len(gammas) == 8 and all((after[name] == 1).all() for name in gammas)
    assert len(beside) > 100 and {*beside, *gammas} == set(report.new)
    assert all(torch.equal(after[name], before[name]) for name in beside)


def test_an_adapter_fills_an_adapter_whole(save):
    source = MPVGViTAdapter(**ADAPTER, pe_delivery='lape')
    source(torch.rand(2, 3, 64, 64))
    target = MPVGViTAdapter(**ADAPTER, pe_delivery='lape')
    report = PretrainedViT(save(source))(target)
    assert not report.new and not report.ignored
    assert all(torch.equal(target.state_dict()[n], v) for n, v in source.state_dict().items())


def test_an_adapter_is_no_plain_vit(save):
    file = save(MPVGViTAdapter(**ADAPTER))
    with pytest.raises(ValueError, match='no place for .*; set its type=.mmpvg.MPVGViTAdapter'):
        PretrainedViT(file)(MPVGViT(ARCH, img_size=64))

"""mmseg's DPTHead on pairs of a feature map and a class token, as of mmseg's ViT."""

import pytest
import torch

from mmpvg.checkpoints import PretrainedViT
from mmpvg.models import MPVGViT

ARCH = dict(embed_dims=24, num_layers=4, num_heads=2)
TAPS = (0, 1, 2, 3)


def backbone(**kwargs):
    torch.manual_seed(0)
    return MPVGViT(
        ARCH,
        img_size=64,
        with_cls_token=True,
        out_indices=TAPS,
        out_type='featmap_and_cls_token',
        **kwargs,
    )


def dpt_head(readout):
    from mmseg.models.decode_heads import DPTHead

    torch.manual_seed(1)
    return DPTHead(
        embed_dims=24,
        post_process_channels=[8, 8, 16, 16],
        readout_type=readout,
        in_channels=(24,) * 4,
        channels=8,
        num_classes=3,
        in_index=TAPS,
        input_transform='multiple_select',
        norm_cfg=dict(type='BN'),
    )


def test_pairs_are_those_of_mmsegs_vit(tmp_path):
    from mmseg.models.backbones import VisionTransformer

    torch.manual_seed(0)
    source = VisionTransformer(
        img_size=64, embed_dims=24, num_layers=4, num_heads=2, out_indices=TAPS, final_norm=True,
        output_cls_token=True, patch_bias=True, norm_cfg=dict(type='LN', eps=1e-6),
    )  # fmt: skip
    source.eval()
    for value in source.state_dict().values():
        torch.nn.init.normal_(value, std=0.1)
    torch.save(source.state_dict(), tmp_path / 'mmseg.pth')
    vit = backbone(pe_delivery='default').eval()
    PretrainedViT(str(tmp_path / 'mmseg.pth'))(vit)
    image = torch.randn(2, 3, 48, 80)
    with torch.no_grad():
        ours, theirs = vit(image), source(image)
    for (featmap, token), (wanted_map, wanted_token) in zip(ours, theirs):
        torch.testing.assert_close(featmap, wanted_map, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(token, wanted_token, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('delivery', ['default', 'mpvg'])
@pytest.mark.parametrize('readout', ['ignore', 'add', 'project'])
def test_mmsegs_dpt_head_trains_on_it(readout, delivery):
    vit, head = backbone(pe_delivery=delivery), dpt_head(readout)
    pairs = vit(torch.randn(2, 3, 50, 77))
    logits = head(pairs)
    # 4x5 patches; four levels, each twice the size of the one before, from a half on.
    assert logits.shape == (2, 3, 32, 48)
    logits.square().mean().backward()
    without = [n for n, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    # The class token's own value reaches the head where the readout uses it.
    others = [(featmap, token + torch.randn_like(token)) for featmap, token in pairs]
    assert torch.equal(head.eval()(pairs), head(others)) == (readout == 'ignore')


def test_it_needs_a_class_token():
    with pytest.raises(ValueError, match="out_type='featmap_and_cls_token' needs with_cls_token"):
        MPVGViT(ARCH, out_type='featmap_and_cls_token')

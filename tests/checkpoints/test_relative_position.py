"""Weights with a relative position: timm's vit_relpos models, and ViTDet's."""

from functools import partial

import pytest
import timm
import torch

from mmpvg.checkpoints import PretrainedViT, backbone_arguments, read_weights, recognise
from mmpvg.models import MPVGViT


@pytest.fixture
def relpos(tmp_path):
    """A small vit_relpos with random weights, and its file."""
    torch.manual_seed(0)
    model = timm.models.vision_transformer_relpos.VisionTransformerRelPos(
        img_size=64, embed_dim=192, depth=3, num_heads=3, qkv_bias=False, fc_norm=True
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    file = tmp_path / 'relpos.pth'
    torch.save(model.state_dict(), file)
    return model, str(file)


@pytest.mark.parametrize('size', [(64, 64), (48, 112)])
@pytest.mark.parametrize('qkv_bias', [False, True])
def test_timms_relative_vit_loads_whole(relpos, size, qkv_bias):
    model, file = relpos
    arguments = backbone_arguments(recognise(read_weights(file), file))
    assert arguments['relative_position'] == 'mlp' and not arguments['qkv_bias']
    assert arguments['final_norm'] is False
    vit = MPVGViT(**{**arguments, 'qkv_bias': qkv_bias}).eval()
    report = PretrainedViT(file)(vit)
    assert set(report.ignored) == {'fc_norm.weight', 'fc_norm.bias', 'head.weight', 'head.bias'}
    assert len(report.new) == (3 if qkv_bias else 0)
    model.set_input_size(size)
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model.forward_features(image)
        (ours,) = vit(image)
    assert torch.allclose(ours.flatten(2).transpose(1, 2), expected, atol=1e-4, rtol=1e-4)


def test_a_backbone_without_it_refuses_and_names_the_setting(relpos):
    _, file = relpos
    arch = dict(embed_dims=192, num_layers=3, num_heads=3)
    with pytest.raises(ValueError, match="set pe_type=None, pe_delivery='none'"):
        PretrainedViT(file)(MPVGViT(arch, img_size=64))
    vit = MPVGViT(arch, img_size=64, pe_type=None, pe_delivery='none', layer_scale_init_value=1.0)
    with pytest.raises(ValueError, match="no place for .*; set its relative_position='mlp'"):
        PretrainedViT(file)(vit)


@pytest.mark.parametrize('size', [(64, 64), (96, 64), (64, 160)])
def test_sam_gives_its_own_features(size, tmp_path):
    """timm's SAM is the oracle, at grids of whole windows: at others it pads windows, we do not."""
    torch.manual_seed(0)
    sam = timm.models.vision_transformer_sam.VisionTransformerSAM(
        img_size=64, embed_dim=48, depth=3, num_heads=3, num_classes=0, use_rel_pos=True,
        window_size=2, global_attn_indexes=(2,), neck_chans=8,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
    ).eval()  # fmt: skip
    for parameter in sam.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if size != (64, 64):
        # timm resizes the PE with antialiasing.
        torch.nn.init.zeros_(sam.pos_embed)
    content = {
        f'image_encoder.{name}'.replace('mlp.fc', 'mlp.lin'): value
        for name, value in sam.state_dict().items()
    }
    content['mask_decoder.iou_token.weight'] = torch.zeros(1, 8)
    file = tmp_path / 'sam.pth'
    torch.save(content, file)
    vit = MPVGViT(
        dict(embed_dims=48, num_layers=3, num_heads=3), img_size=64, pe_delivery='default',
        relative_position='decomposed', window_size=2, global_blocks=(2,), final_norm=False,
    ).eval()  # fmt: skip
    report = PretrainedViT(str(file))(vit)
    assert not report.new and 'mask_decoder.iou_token.weight' in report.ignored
    arguments = backbone_arguments(recognise(read_weights(str(file)), str(file)), num_heads=3)
    assert arguments['relative_position'] == dict(type='decomposed', grid=(4, 4))
    assert (arguments['window_size'], arguments['global_blocks']) == (2, [2])
    sam.neck = torch.nn.Identity()
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = sam.forward_features(image)
        for fused in (True, False):
            for block in vit.blocks:
                block.attn.fused = fused
            assert torch.allclose(vit(image)[0], expected, atol=1e-4, rtol=1e-4)

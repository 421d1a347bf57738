"""Each source gives the features that it gives where it comes from, at three sizes."""

import argparse
import urllib.request

import numpy as np
import pytest
import timm
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from timm.models.deit import VisionTransformerDistilled

from mmpvg.checkpoints import PretrainedViT, read_weights
from mmpvg.models import MPVGViT

SIZES = [(64, 64), (96, 96), (48, 112)]


def assert_same_features(vit, expected, sizes=SIZES, atol=1e-4):
    """Compare with a function of an image, at the native size, another one and a non-square one."""
    for size in sizes:
        image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            ours = vit(image)[0]
        theirs = expected(image)
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=atol, rtol=1e-4), (ours - theirs).abs().max()


def random_source(model):
    """A network of another project with random weights, and its features of an image."""
    torch.manual_seed(0)
    for param in model.parameters():
        torch.nn.init.normal_(param, std=0.1)
    model.train(False)

    def expected(image):
        with torch.no_grad():
            return model(image)[-1]

    return model.state_dict(), expected


def save(content, path):
    torch.save(content, path)
    return str(path)


def test_deit(make_timm, make_vit, oracle, tmp_path):
    model = make_timm()
    # Its files keep the weights at 'model'.
    file = save({'model': model.state_dict()}, tmp_path / 'deit.pth')
    vit = make_vit()
    report = PretrainedViT(file)(vit)
    assert_same_features(vit, lambda image: oracle(model, image))
    assert report.family == 'timm' and not report.new and not report.resized
    assert set(report.ignored) == {'head.weight', 'head.bias'}
    assert len(report.loaded) == len(vit.state_dict())


def test_deit_distilled(make_vit, oracle, tmp_path):
    torch.manual_seed(0)
    model = VisionTransformerDistilled(
        img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=3, num_classes=10
    ).eval()
    for param in model.parameters():
        torch.nn.init.normal_(param, std=0.1)
    file = save({'model': model.state_dict()}, tmp_path / 'deit_distilled.pth')
    # The distillation token is a register that has learnt its own place.
    vit = make_vit(num_registers=1)
    report = PretrainedViT(file)(vit)
    assert_same_features(vit, lambda image: oracle(model, image))
    assert {'head_dist.weight', 'head.bias'} <= set(report.ignored)
    without = PretrainedViT(file)(make_vit())
    assert 'num_registers=0' in without.ignored['register_tokens']


def test_deit_iii(make_timm, make_vit, oracle, rename, tmp_path):
    model = make_timm(init_values=1.0, no_embed_class=True)
    state = rename(model.state_dict(), (r'\.ls([12])\.gamma', r'.gamma_\1'))
    file = save({'model': state}, tmp_path / 'deit_3.pth')
    vit = make_vit(layer_scale_init_value=1.0)
    report = PretrainedViT(file)(vit)
    assert report.family == 'DeiT III'
    assert not vit.position_embedding.cls_row.any(), 'a token without a PE row has a row of zeros'
    assert_same_features(vit, lambda image: oracle(model, image))
    with pytest.raises(ValueError, match=r'LayerScale; set layer_scale_init_value=1\.0'):
        PretrainedViT(file)(make_vit())


def test_mae(make_timm, make_vit, oracle, tmp_path):
    model = make_timm()
    state = {name: value for name, value in model.state_dict().items() if 'head' not in name}
    state |= {
        'mask_token': torch.rand(1, 1, 32),
        'decoder_embed.weight': torch.rand(32, 48),
        'decoder_pos_embed': torch.rand(1, 17, 32),
        'decoder_blocks.0.attn.qkv.weight': torch.rand(96, 32),
    }
    # Its training saves its arguments too, which weights_only refuses.
    file = save({'model': state, 'args': argparse.Namespace(lr=1e-3)}, tmp_path / 'mae.pth')
    vit = make_vit()
    report = PretrainedViT(file)(vit)
    assert report.family == 'MAE' and len(report.ignored) == 4
    assert_same_features(vit, lambda image: oracle(model, image))


@pytest.mark.parametrize('registers', [0, 4])
@pytest.mark.parametrize('chunked', [False, True])
def test_dinov2(make_timm, make_vit, oracle, rename, tmp_path, registers, chunked):
    model = make_timm(56, 14, reg_tokens=registers, init_values=1.0, no_embed_class=registers > 0)
    state = {name: value for name, value in model.state_dict().items() if 'head' not in name}
    state['mask_token'] = torch.rand(1, 48)
    if registers:
        # The release keeps a row for the class token; timm has added it to the token.
        row = torch.randn(1, 1, 48)
        state['pos_embed'] = torch.cat([row, state['pos_embed']], dim=1)
        state['cls_token'] = state['cls_token'] - row
        state['register_tokens'] = state.pop('reg_token')
    if chunked:
        state = rename(state, (r'^blocks\.', 'blocks.0.'))
    file = save(state, tmp_path / 'dinov2.pth')
    vit = make_vit(img_size=56, patch_size=14, num_registers=registers, layer_scale_init_value=1e-5)
    report = PretrainedViT(file)(vit)
    assert report.family == 'DINOv2'
    assert_same_features(vit, lambda image: oracle(model, image), [(56, 56), (84, 84), (42, 98)])


def test_lape(make_vit, rename, tmp_path):
    """LaPE's release has timm's names, a PE norm in each block and a class-token row in the PE."""
    source = make_vit(pe_delivery='lape')
    state = source.state_dict()
    row, table = (state.pop(f'position_embedding.{name}') for name in ('cls_row', 'table'))
    state['pos_embed'] = torch.cat([row, table.flatten(1, 2)], dim=1)
    state = rename(state, (r'pe_delivery\.block_norms\.(\d+)', r'blocks.\1.pe_norm'))
    assert 'blocks.0.pe_norm.weight' in state
    file = save({'model': state}, tmp_path / 'lape.pth')
    vit = make_vit(pe_delivery='lape')
    torch.nn.init.zeros_(vit.position_embedding.table)
    report = PretrainedViT(file)(vit)
    assert report.family == 'LaPE' and not report.new
    assert_same_features(vit, lambda image: source(image)[0].detach())
    with pytest.raises(ValueError, match='blocks 0 to 2, this backbone to blocks 1 to 2'):
        PretrainedViT(file)(make_vit(pe_delivery='pvg'))


def test_augreg(make_timm, make_vit, oracle, tmp_path):
    """timm reads the same .npz by its own code, and is the oracle."""
    state, arrays = make_timm().state_dict(), {}
    for name, value in state.items():
        value = value.numpy()
        if name.startswith('blocks.'):
            _, block, part = name.split('.', 2)
            place = f'Transformer/encoderblock_{block}'
            attention = f'{place}/MultiHeadDotProductAttention_1'
            leaf = 'kernel' if name.endswith('weight') else 'bias'
            if part.startswith('attn.qkv'):
                for which, third in zip(('query', 'key', 'value'), np.split(value, 3)):
                    heads = third.T.reshape(48, 3, 16) if leaf == 'kernel' else third.reshape(3, 16)
                    arrays[f'{attention}/{which}/{leaf}'] = heads
            elif part.startswith('attn.proj'):
                flax = value.T.reshape(3, 16, 48) if leaf == 'kernel' else value
                arrays[f'{attention}/out/{leaf}'] = flax
            elif part.startswith('mlp'):
                arrays[f'{place}/MlpBlock_3/Dense_{int(part[6]) - 1}/{leaf}'] = value.T
            else:
                norm = 'LayerNorm_0' if part.startswith('norm1') else 'LayerNorm_2'
                arrays[f'{place}/{norm}/{"scale" if leaf == "kernel" else leaf}'] = value
    arrays |= {
        'cls': state['cls_token'].numpy(),
        'Transformer/posembed_input/pos_embedding': state['pos_embed'].numpy(),
        'embedding/kernel': state['patch_embed.proj.weight'].numpy().transpose(2, 3, 1, 0),
        'embedding/bias': state['patch_embed.proj.bias'].numpy(),
        'Transformer/encoder_norm/scale': state['norm.weight'].numpy(),
        'Transformer/encoder_norm/bias': state['norm.bias'].numpy(),
        'head/kernel': state['head.weight'].numpy().T,
        'head/bias': state['head.bias'].numpy(),
    }
    file = str(tmp_path / 'augreg.npz')
    np.savez(file, **arrays)
    model = make_timm()
    torch.nn.init.zeros_(model.blocks[1].attn.qkv.weight)
    model.load_pretrained(file)
    vit = make_vit()
    report = PretrainedViT(file)(vit)
    assert not report.new and set(report.ignored) == {'head.weight', 'head.bias'}
    assert_same_features(vit, lambda image: oracle(model, image))


@pytest.mark.parametrize('layer_scale', [0.0, 1.0])
def test_mmpretrain(make_vit, tmp_path, layer_scale):
    from mmpretrain.models import VisionTransformer

    arch = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
    model = VisionTransformer(
        arch, img_size=64, patch_size=16, out_type='featmap', layer_scale_init_value=layer_scale
    )
    state, expected = random_source(model)
    state = {f'backbone.{name}': value for name, value in state.items()}
    state['head.layers.head.weight'] = torch.rand(10, 48)
    # mmengine's checkpoints hold logged numbers, which weights_only refuses.
    logged = dict(log_scalars={'train/loss': HistoryBuffer([np.float64(1.5)], [1])})
    content = dict(state_dict=state, meta=dict(epoch=1), message_hub=logged)
    vit = make_vit(layer_scale_init_value=layer_scale or None)
    report = PretrainedViT(save(content, tmp_path / 'mmpretrain.pth'))(vit)
    assert report.family == 'mmpretrain'
    assert report.ignored == {'head.layers.head.weight': 'lies outside the backbone'}
    assert_same_features(vit, expected)


def test_mmpretrain_deit_iii(make_vit, tmp_path):
    from mmpretrain.models import DeiT3

    arch = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
    model = DeiT3(arch, img_size=64, patch_size=16, out_type='featmap')
    state, expected = random_source(model)
    # mmpretrain's DeiT3 runs ln1 before the MLP too, where DeiT III has a second norm; with two
    # equal norms it is the network that its weights were trained as.
    for layer in model.layers:
        layer.ln2.load_state_dict(layer.ln1.state_dict())
    vit = make_vit(layer_scale_init_value=1.0)
    PretrainedViT(save(dict(state_dict=state), tmp_path / 'deit3.pth'))(vit)
    assert_same_features(vit, expected)


@pytest.mark.parametrize('patch_bias', [True, False])
def test_mmseg(make_vit, tmp_path, patch_bias):
    from mmseg.models.backbones import VisionTransformer

    model = VisionTransformer(
        img_size=64, embed_dims=48, num_layers=3, num_heads=3, final_norm=True,
        patch_bias=patch_bias, norm_cfg=dict(type='LN', eps=1e-6),
    )  # fmt: skip
    state, expected = random_source(model)
    state = {f'backbone.{name}': value for name, value in state.items()}
    state['decode_head.conv_seg.weight'] = torch.rand(5, 48, 1, 1)
    vit = make_vit()
    report = PretrainedViT(save(dict(state_dict=state), tmp_path / 'mmseg.pth'))(vit)
    assert report.family == 'mmseg'
    assert set(report.new) == (set() if patch_bias else {'patch_embed.proj.bias'})
    assert_same_features(vit, expected)


@pytest.mark.parametrize('suffix', ['.safetensors', '.weights'])
def test_safetensors(make_timm, make_vit, oracle, tmp_path, suffix):
    model = make_timm()
    file = tmp_path / f'model{suffix}'
    save_file(model.state_dict(), file)
    vit = make_vit()
    PretrainedViT(str(file))(vit)
    assert_same_features(vit, lambda image: oracle(model, image))


def test_our_own_whole_models(make_vit, tmp_path):
    source = make_vit(pe_delivery='mpvg', with_cls_token=False)
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    state |= {'neck.levels.0.weight': torch.rand(3), 'head.fc.weight': torch.rand(10, 48)}
    file = save(dict(state_dict=state, meta={}, optimizer={}), tmp_path / 'ours.pth')
    vit = make_vit(pe_delivery='mpvg', with_cls_token=False, img_size=(48, 96))
    report = PretrainedViT(file)(vit)
    assert report.family == 'mmpvg' and not report.new
    assert report.resized == {'position_embedding.table': '4x4 -> 3x6 patches, bicubic'}
    # At its own size the source resizes its table to 3x6 too.
    assert_same_features(vit, lambda image: source(image)[0].detach(), [(48, 96)])


def test_timm_by_name(oracle, tmp_path, monkeypatch):
    """timm finds the weights in its cache, as it does on a machine that has downloaded them."""
    name = 'deit_tiny_patch16_224.fb_in1k'
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    torch.nn.init.normal_(model.pos_embed)
    folder = tmp_path / f'hub/models--timm--{name}'
    (folder / 'snapshots/0').mkdir(parents=True)
    (folder / 'refs').mkdir()
    (folder / 'refs/main').write_text('0')
    save_file(model.state_dict(), folder / 'snapshots/0/model.safetensors')
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    vit = MPVGViT(pe_delivery='default', with_cls_token=True).eval()
    report = PretrainedViT(f'timm://{name}')(vit)
    assert_same_features(
        vit, lambda image: oracle(model, image), [(224, 224), (320, 320), (160, 384)], atol=2e-4
    )
    assert set(report.ignored) == {'head.weight', 'head.bias'}
    assert read_weights(f'timm://{name}').num_heads == 3
    with pytest.raises(ValueError, match='cannot get the weights of deit_small'):
        PretrainedViT('timm://deit_small_patch16_224')(vit)
    with pytest.raises(ValueError, match='no model .deit_tini.*deit_tiny_patch16_224'):
        PretrainedViT('timm://deit_tini_patch16_224')(vit)


def test_url_is_downloaded_once(make_timm, make_vit, tmp_path, monkeypatch):
    model = make_timm()
    file = tmp_path / 'served' / 'vit.pth'
    file.parent.mkdir()
    save(model.state_dict(), file)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(urllib.request, 'getproxies', dict)
    vit = make_vit()
    PretrainedViT(file.as_uri())(vit)
    file.unlink()
    PretrainedViT(file.as_uri())(vit)
    assert torch.equal(vit.norm.weight, model.norm.weight)
    with pytest.raises(ValueError, match='cannot download'):
        PretrainedViT((tmp_path / 'served/none.pth').as_uri())(vit)
    # A file of the same name from elsewhere is another one.
    other = tmp_path / 'elsewhere' / 'vit.pth'
    other.parent.mkdir()
    torch.nn.init.ones_(model.norm.weight)
    save(model.state_dict(), other)
    PretrainedViT(other.as_uri())(vit)
    assert vit.norm.weight.eq(1).all()
    # What was cut short is not kept.
    other = tmp_path / 'served' / 'cut.pth'
    other.write_bytes((tmp_path / 'elsewhere' / 'vit.pth').read_bytes()[:5000])
    with pytest.raises(ValueError, match=r'truncated.*the download of \S*cut.pth is removed'):
        PretrainedViT(other.as_uri())(vit)
    left = [path.name for path in (tmp_path / 'hub/checkpoints').iterdir()]
    assert sum(name.endswith('.pth') for name in left) == 2
    assert all(name.endswith(('.pth', '.lock')) for name in left), 'half a download is left'


def test_a_grid_that_the_file_does_not_tell_is_reported(make_timm, make_vit, oracle, tmp_path):
    # 12 rows of 2x6 patches fit a backbone of 6x2 as well: which they are, only the user knows.
    model = make_timm(img_size=(32, 96))
    file = save(model.state_dict(), tmp_path / 'vit.pth')
    vit = make_vit(img_size=(96, 32))
    (note,) = PretrainedViT(file)(vit).notes
    assert '12 PE rows' in note and '6x2' in note and 'grid=(h, w)' in note
    assert not PretrainedViT(file, grid=(2, 6))(vit).notes
    same = make_vit(img_size=(32, 96))
    assert not PretrainedViT(file, grid=(2, 6))(same).notes
    assert_same_features(same, lambda image: oracle(model, image), sizes=[(32, 96), (64, 64)])
    # 16 rows of 2x8 patches are as many as a square's.
    file = save(make_timm(img_size=(32, 128)).state_dict(), tmp_path / 'vit.pth')
    (note,) = PretrainedViT(file)(make_vit()).notes
    assert '16 PE rows' in note and '4x4' in note


def test_a_file_with_names_of_a_rotary_model_is_noted(make_vit, tmp_path):
    options = dict(img_size=64, embed_dim=48, depth=3, num_heads=3)
    model = timm.create_model('vit_small_patch16_rope_ape_224', **options)
    file = save(model.state_dict(), tmp_path / 'vit.pth')
    notes = PretrainedViT(file)(make_vit(layer_scale_init_value=1.0)).notes
    assert any('rope_ape' in note and 'timm://NAME' in note for note in notes)

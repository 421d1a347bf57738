"""Folders, shards, other bands, fine-tuning wrappers, and what a source says about itself."""

import json
import logging

import numpy as np
import pytest
import timm
import torch
from mmengine.logging import MMLogger
from safetensors.torch import save_file
from timm.models._manipulate import adapt_input_conv

from mmpvg.checkpoints import (
    PretrainedViT,
    Weights,
    backbone_arguments,
    fit,
    read_weights,
    recognise,
)
from mmpvg.checkpoints.resize import adapt_channels
from mmpvg.models import MPVGViT


def features(vit, model, size=(64, 64)):
    """Largest difference of our features from timm's."""
    image = torch.randn(1, model.patch_embed.proj.in_channels, *size)
    with torch.no_grad():
        expected = model.forward_features(image)[:, model.num_prefix_tokens :]
        return (vit(image)[0].flatten(2).transpose(1, 2) - expected).abs().max().item()


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
@pytest.mark.parametrize('sharded', [False, True])
def test_a_folder_of_weights(make_timm, make_vit, tmp_path, name, sharded):
    model = make_timm()
    state = model.state_dict()
    save = save_file if name.endswith('.safetensors') else torch.save
    if sharded:
        halves = [dict(list(state.items())[half::2]) for half in (0, 1)]
        for half, content in enumerate(halves):
            save(content, tmp_path / f'{half}-{name}')
        weight_map = {n: f'{half}-{name}' for half, c in enumerate(halves) for n in c}
        index = tmp_path / f'{name}.index.json'
        index.write_text(json.dumps(dict(metadata={}, weight_map=weight_map)))
    else:
        save(state, tmp_path / name)
    (tmp_path / 'config.json').write_text(json.dumps(dict(architectures=['ViT'])))
    sources = [tmp_path, index] if sharded else [tmp_path]
    for source in sources:
        vit = make_vit()
        report = PretrainedViT(str(source))(vit)
        assert not report.new and features(vit, model) < 1e-4
    if sharded:
        (tmp_path / f'1-{name}').unlink()
        with pytest.raises(
            ValueError, match=f"names '1-{name}', which is no file of weights beside it"
        ):
            PretrainedViT(str(tmp_path))(make_vit())


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'it is no JSON'),
        ('[1]', 'it holds a list'),
        ('[' * 100000, 'it is no JSON'),
        ('{}', 'no index of shards'),
        ('{"weight_map": {"a": "../x.safetensors"}}', 'no file of weights beside it'),
        ('{"weight_map": {"a": "model.safetensors.index.json"}}', 'no file of weights beside it'),
    ],
)
def test_a_bad_index(tmp_path, content, message):
    file = tmp_path / 'model.safetensors.index.json'
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_weights(str(file))


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(ValueError, match=r'a folder without model.safetensors, .*give the file'):
        read_weights(str(tmp_path))


@pytest.mark.parametrize('scheme', ['timm://local-dir:', ''])
def test_a_folder_of_timm_is_read_through_timm(tmp_path, scheme):
    def save(name, **arguments):
        torch.manual_seed(0)
        model = timm.create_model(name, **arguments).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        save_file(model.state_dict(), tmp_path / 'model.safetensors')
        cfg = dict(mean=[0.5] * 3, std=[0.5] * 3, input_size=[3, 64, 64])
        config = dict(architecture=name, model_args=arguments, num_classes=5, pretrained_cfg=cfg)
        (tmp_path / 'config.json').write_text(json.dumps(config))
        return model

    arguments = dict(embed_dim=48, depth=2, num_heads=4, img_size=64, num_classes=5)
    model = save('vit_tiny_patch16_224', **arguments)
    source = f'{scheme}{tmp_path}'
    weights = read_weights(source)
    assert weights.num_heads == 4 and weights.pixels.std == (127.5,) * 3
    arch = dict(embed_dims=48, num_layers=2, num_heads=4)
    vit = MPVGViT(arch, img_size=64, pe_delivery='default', with_cls_token=True).eval()
    assert PretrainedViT(source)(vit).heads == '4, as the source has'
    assert features(vit, model) < 1e-4
    # A file does not show that its norms come after the branches; the folder does.
    save('vit_base_patch16_rpn_224', **arguments)
    with pytest.raises(ValueError, match=r'another network \(VisionTransformer, ResPostBlock'):
        read_weights(source)
    (tmp_path / 'model.safetensors').write_bytes(b'cut')
    with pytest.raises(ValueError, match='timm cannot get the weights of local-dir:'):
        read_weights(source)


def test_the_hub_of_hugging_face_is_reached_through_timm(monkeypatch, tmp_path):
    """Offline here: the error is one sentence, and the name is not taken for an architecture."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(ValueError, match='cannot get the weights of hf-hub:timm/vit_tiny'):
        read_weights('timm://hf-hub:timm/vit_tiny_patch16_224.augreg_in21k')


@pytest.mark.parametrize('channels', [1, 2, 4, 6, 7])
def test_rgb_weights_go_into_other_channels_as_in_timm(make_timm, make_vit, tmp_path, channels):
    model = make_timm()
    kernel = model.patch_embed.proj.weight
    expected = adapt_input_conv(channels, kernel)
    assert torch.allclose(adapt_channels(kernel, channels), expected, atol=1e-6)
    torch.save(model.state_dict(), tmp_path / 'rgb.pth')
    vit = make_vit(in_channels=channels)
    report = PretrainedViT(str(tmp_path / 'rgb.pth'))(vit)
    assert torch.allclose(vit.patch_embed.proj.weight, expected, atol=1e-6)
    assert f'3 -> {channels} channels' in report.resized['patch_embed.proj.weight']


def test_six_bands_of_one_frame(make_timm, make_vit, tmp_path):
    """Prithvi's patches have an axis of frames."""
    model = make_timm(in_chans=6)
    state = model.state_dict()
    file = str(tmp_path / 'bands.pth')
    name = 'patch_embed.proj.weight'
    torch.save({**state, name: state[name][:, :, None]}, file)
    assert backbone_arguments(recognise(read_weights(file), file), num_heads=3)['in_channels'] == 6
    vit = make_vit(in_channels=6)
    assert not PretrainedViT(file)(vit).resized and features(vit, model) < 1e-4
    with pytest.raises(ValueError, match='have 6 channels; set in_channels=6'):
        PretrainedViT(file)(make_vit())
    for shape in ((48, 6, 3, 16, 16), (48, 768)):
        torch.save({**state, name: torch.zeros(shape)}, file)
        with pytest.raises(ValueError, match='a patch embedding of shape'):
            PretrainedViT(file)(make_vit())


@pytest.mark.parametrize('whole', [True, False])
def test_lora_weights_have_to_be_merged_first(make_timm, make_vit, tmp_path, whole):
    state = {f'base_model.model.{name}': value for name, value in make_timm().state_dict().items()}
    prefix = 'base_model.model.blocks.0.attn.qkv.'
    state[f'{prefix}base_layer.weight'] = state.pop(f'{prefix}weight')
    lora = {f'{prefix}lora_{part}.default.weight': torch.zeros(2, 2) for part in 'AB'}
    file = tmp_path / 'adapter_model.safetensors'
    save_file({**(state if whole else {}), **lora}, file)
    for source in (file, tmp_path):
        with pytest.raises(ValueError, match=r'merge_and_unload\(\)'):
            PretrainedViT(str(source))(make_vit())


@pytest.mark.parametrize('kind', ['head', 'block'])
def test_gab_as_its_authors_code_names_it(tmp_path, kind):
    """GAB adds two parameters and two constants to the relative position of timm's models."""
    torch.manual_seed(0)
    model = timm.models.vision_transformer_relpos.VisionTransformerRelPos(
        img_size=64, embed_dim=48, depth=2, num_heads=3, qkv_bias=False, fc_norm=True
    ).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    state, gaussians = model.state_dict(), []
    for block in range(2):
        a, sigma = torch.rand(2, 3 if kind == 'head' else 1) + 0.5
        place = f'blocks.{block}.attn.rel_pos'
        state |= {f'{place}.amplitude_param': a, f'{place}.sigma_param': sigma}
        state |= {f'{place}.relative_coords_{axis}': torch.arange(-3.0, 4) for axis in 'HW'}
        cells = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
        squares = (cells[:, None] - cells).square().sum(-1)
        gaussian = a[:, None, None] ** 2 * torch.exp(-squares / (2 * sigma[:, None, None] ** 2))
        gaussians.append(gaussian)
        # The authors' own way: its forward returns the relative bias and the Gaussian.
        rel_pos = model.blocks[block].attn.rel_pos
        bias = rel_pos.get_bias().detach()
        rel_pos.get_bias = lambda total=bias + gaussian: total
    file = str(tmp_path / 'gab.pth')
    torch.save(state, file)
    arguments = backbone_arguments(recognise(read_weights(file), file))
    assert arguments['gaussian_bias'] == kind and arguments['arch']['num_heads'] == 3
    vit = MPVGViT(**arguments).eval()
    report = PretrainedViT(file)(vit)
    assert not report.new and features(vit, model) < 1e-4


def test_a_file_does_not_tell_heads_and_the_report_says_so(make_timm, make_vit, tmp_path):
    torch.save(make_timm().state_dict(), tmp_path / 'x.pth')
    text = str(PretrainedViT(str(tmp_path / 'x.pth'))(make_vit()))
    assert "heads    3, taken from this backbone's arch" in text and 'set num_heads in arch' in text


def test_augregs_files_tell_heads_and_normalization(tmp_path):
    rng = np.random.default_rng(0)
    d, heads = 48, 4
    block = 'Transformer/encoderblock_0'
    attention = f'{block}/MultiHeadDotProductAttention_1'
    shapes = {
        'embedding/kernel': (16, 16, 3, d),
        'embedding/bias': (d,),
        'Transformer/posembed_input/pos_embedding': (1, 16, d),
        f'{attention}/out/kernel': (heads, d // heads, d),
        f'{attention}/out/bias': (d,),
        f'{block}/MlpBlock_3/Dense_0/kernel': (d, 4 * d),
        f'{block}/MlpBlock_3/Dense_0/bias': (4 * d,),
        f'{block}/MlpBlock_3/Dense_1/kernel': (4 * d, d),
        f'{block}/MlpBlock_3/Dense_1/bias': (d,),
    }
    for which in ('query', 'key', 'value'):
        shapes[f'{attention}/{which}/kernel'] = (d, heads, d // heads)
        shapes[f'{attention}/{which}/bias'] = (heads, d // heads)
    for norm in (f'{block}/LayerNorm_0', f'{block}/LayerNorm_2', 'Transformer/encoder_norm'):
        shapes |= {f'{norm}/scale': (d,), f'{norm}/bias': (d,)}
    file = str(tmp_path / 'augreg.npz')
    np.savez(file, **{name: rng.normal(size=shape) for name, shape in shapes.items()})
    arch = dict(embed_dims=d, num_layers=1, num_heads=heads)
    report = PretrainedViT(file)(MPVGViT(arch, img_size=64, pe_delivery='default'))
    assert report.heads == '4, as the source has'
    assert 'pixels   mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]' in str(report)
    with pytest.raises(ValueError, match='it has 4 attention heads, this backbone 3'):
        other = MPVGViT({**arch, 'num_heads': 3}, img_size=64, pe_delivery='default')
        PretrainedViT(file)(other)


@pytest.mark.parametrize('name', ['DEFAULT', 'INCEPTION'])
def test_another_normalization_than_imagenets_is_a_warning(tmp_path, name):
    mean, std = (getattr(timm.data, f'IMAGENET_{name}_{part}') for part in ('MEAN', 'STD'))
    arguments = dict(embed_dim=48, depth=2, num_heads=3, img_size=64, num_classes=5)
    model = timm.create_model('vit_tiny_patch16_224', **arguments)
    save_file(model.state_dict(), tmp_path / 'model.safetensors')
    config = dict(architecture='vit_tiny_patch16_224', model_args=arguments)
    config['pretrained_cfg'] = dict(mean=mean, std=std, input_size=(3, 64, 64))
    (tmp_path / 'config.json').write_text(json.dumps(config))
    arch = dict(embed_dims=48, num_layers=2, num_heads=3)
    logger = MMLogger.get_current_instance()
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        PretrainedViT(str(tmp_path))(MPVGViT(arch, img_size=64))
    finally:
        logger.removeHandler(handler)
    report, *warnings = [(record.levelname, record.getMessage()) for record in records]
    assert report[0] == 'INFO' and 'the data_preprocessor must have these' in report[1]
    if name == 'DEFAULT':
        assert 'mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]' in report[1]
        assert not warnings
    else:
        ((level, text),) = warnings
        half = '[127.5, 127.5, 127.5]'
        assert level == 'WARNING' and f'set mean={half}, std={half} in the' in text


def test_no_distillation_token_receives_lapes_position_embedding(make_vit, tmp_path):
    """LaPE runs its row through the chain; as a register it would be added once."""
    state = {
        name.replace('pe_delivery.block_norms.', 'blocks.').replace('.weight', '.pe_norm.weight')
        .replace('.bias', '.pe_norm.bias') if 'block_norms' in name else name: value
        for name, value in make_vit(pe_delivery='lape').state_dict().items()
        if not name.startswith('position_embedding')
    }  # fmt: skip
    state |= {'dist_token': torch.zeros(1, 1, 48), 'pos_embed': torch.randn(1, 18, 48)}
    source = recognise(Weights(state), 'x')
    with pytest.raises(ValueError, match='set num_registers=0'):
        fit(source, make_vit(pe_delivery='lape', num_registers=1))
    assert 'register_tokens' in fit(source, make_vit(pe_delivery='lape'))[1].ignored

"""What the inspection of a model reads and records, against calculations by hand."""

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from PIL import Image

from mmpvg.analysis.inspection import image_files, open_model, record_network
from mmpvg.engine.config.backbone import find_vit
from mmpvg.models.layers.flex import has_flex_attention


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('cls_token', [False, True])
def test_record_is_what_the_equations_say(make_vit, delivery, cls_token):
    vit = make_vit(pe_delivery=delivery, with_cls_token=cls_token, out_indices=(2,))
    images = torch.rand(2, 3, 24, 40)
    with torch.no_grad():
        record = record_network(vit, images)
        taps, grid = vit.forward_tokens(images)
        x, _ = vit.patch_embed(images)
        pos = vit.position_embedding(grid)
        if cls_token:
            x = torch.cat((vit.cls_token.expand(2, -1, -1), x), dim=1)
        if delivery != 'lape':
            x = x + pos
        p = pos
        for index, block in enumerate(vit.blocks):
            embedding = block.norm1(x)
            receives = delivery == 'lape' or (delivery != 'default' and index > 0)
            if receives:
                p = vit.pe_delivery.block_norms[str(index)](p)
            recorded = record.blocks[index]
            torch.testing.assert_close(recorded.embedding, embedding[:, -15:])
            assert (recorded.pe is None) == (not receives)
            if receives:
                torch.testing.assert_close(recorded.pe, p[0, -15:])
            x = x + block.attn(embedding + p if receives else embedding, grid)
            x = x + block.mlp(block.norm2(x))
            torch.testing.assert_close(recorded.output, x[:, -15:])
    assert record.grid == grid == (3, 5)
    torch.testing.assert_close(record.table, pos[0, -15:])
    torch.testing.assert_close(record.last, taps[-1][:, -15:])


def test_record_of_an_adapter_holds_its_last_pe():
    pytest.importorskip('mmcv.ops', reason='the adapter needs compiled operators of mmcv')
    from mmpvg.models import MPVGViTAdapter

    torch.manual_seed(0)
    arch = dict(embed_dims=24, num_layers=4, num_heads=2)
    vit = MPVGViTAdapter(arch, img_size=32, norm_cfg=dict(type='BN')).eval()
    with torch.no_grad():
        record = record_network(vit, torch.rand(1, 3, 48, 64))
    assert len(record.blocks) == 4 and record.grid == (3, 4)
    last_pe = vit.pe_delivery.last_norm(vit.position_embedding((3, 4)))
    torch.testing.assert_close(record.last, record.blocks[-1].output + last_pe)


def test_hooks_are_gone_after_a_failure(make_vit):
    vit = make_vit()
    with pytest.raises(ValueError, match='in_channels'):
        record_network(vit, torch.rand(1, 4, 32, 32))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in vit.modules())


@pytest.mark.parametrize(
    ('name', 'side'),
    [
        ('sample/upernet_vit_mpvg_sample', 96),
        ('classification/vit-t_default_8xb128-300e_in1k', 224),
    ],
)
def test_images_are_what_the_data_preprocessor_makes_of_them(repo, sample_data, name, side):
    config = repo / f'configs/{name}.py'
    model = open_model(config, 'none')
    assert model.native_size == (side, side)
    (file,) = image_files(sample_data / 'images/val', 1)

    from mmengine.registry import MODELS

    from mmpvg.engine.config.config_model import build_config_model

    cfg, _ = build_config_model(str(config))
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    with Image.open(file) as image:
        w, h = image.size
        bgr = np.asarray(image.convert('RGB'))[:, :, ::-1].copy()
    inputs = [torch.from_numpy(bgr).permute(2, 0, 1)]
    samples = None if name.startswith('classification') else [BaseDataElement()]
    made = preprocessor(dict(inputs=inputs, data_samples=samples), False)['inputs']
    torch.testing.assert_close(model.read_images([file], (h, w)), made[:, :, :h, :w])


def test_a_test_set_without_files(repo, sample_data):
    """mmpretrain's CIFAR gives arrays, in RGB."""
    model = open_model(
        repo / 'configs/classification/vit-lite_mpvg_1xb128-310e_cifar100.py', 'none'
    )
    (file,) = image_files(sample_data / 'images/val', 1)
    with Image.open(file) as image:
        w, h = image.size
        rgb = torch.from_numpy(np.array(image.convert('RGB'))).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.mean, model.std))
    assert model.rgb and len(set(model.mean)) == 3
    torch.testing.assert_close(model.read_images([file], (h, w))[0], (rgb - mean) / std)


def test_of_joined_test_sets_the_first_is_read(repo, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{repo}/configs/sample/upernet_vit_mpvg_sample.py'\n"
        "gray, color = (dict(type='BaseSegDataset', pipeline=[dict(type='LoadImageFromFile', "
        "color_type=kind)]) for kind in ('grayscale', 'color'))\n"
        "test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', "
        'datasets=[gray, color]))\n'
    )
    model = open_model(config, 'none')
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'image.png')
    assert model.reader(tmp_path / 'image.png').ndim == 2


@pytest.mark.skipif(not has_flex_attention(), reason="this torch's flex_attention trains no bias")
def test_no_compiled_kernel_is_looked_into(repo):
    """Gradients are taken several times through one pass, which it may refuse."""
    options = {'model.backbone.gaussian_bias': dict(per='head', kernel='flex')}
    model = open_model(repo / 'configs/sample/upernet_vit_mpvg_sample.py', 'none', options)
    assert not any(block.attn.flex for block in model.vit.blocks)


def test_a_device_that_is_not_there_is_refused(repo):
    with pytest.raises(ValueError, match="device 'toaster' cannot be used"):
        open_model(repo / 'configs/sample/upernet_vit_mpvg_sample.py', 'none', device='toaster')


def test_trained_weights_arrive(repo, tmp_path):
    from mmpvg.engine.config.config_model import build_config_model

    config = repo / 'configs/sample/classifier_vit_mpvg_sample.py'
    _, model = build_config_model(str(config))
    table = torch.full_like(find_vit(model).position_embedding.table, 0.25)
    model.backbone.position_embedding.table.data.copy_(table)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'trained.pth')
    opened = open_model(config, tmp_path / 'trained.pth', name='mine')
    assert opened.name == 'mine' and not opened.vit.training
    assert torch.equal(opened.vit.position_embedding.table, table)

    torch.save(dict(state_dict=dict(model.backbone.state_dict())), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='does not fit the model of the config: unexpected key'):
        open_model(config, tmp_path / 'other.pth')
    with pytest.raises(FileNotFoundError, match='absent'):
        open_model(config, tmp_path / 'absent.pth')


def test_models_without_the_vit_are_refused():
    with pytest.raises(ValueError, match=r'Linear.*needs mmpvg\.MPVGViT'):
        find_vit(torch.nn.Linear(2, 2))


def test_image_files(tmp_path):
    for name in ('b.png', 'a.JPG', 'c.txt', 'd.jpeg', 'e.bmp'):
        (tmp_path / name).write_bytes(b'')
    assert [f.name for f in image_files(tmp_path)] == ['a.JPG', 'b.png', 'd.jpeg', 'e.bmp']
    assert [f.name for f in image_files(tmp_path, 2)] == ['a.JPG', 'd.jpeg']
    assert image_files(tmp_path / 'b.png') == [tmp_path / 'b.png']
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/curve.png').write_bytes(b'')
    assert image_files(tmp_path, 1, left_out=tmp_path / 'out') == [tmp_path / 'a.JPG']
    assert (
        len(image_files(tmp_path, left_out=tmp_path / 'out')) == 4 == len(image_files(tmp_path)) - 1
    )
    (tmp_path / 'f.mp4').write_bytes(b'')
    refused = {'c.txt': 'neither a folder nor an image', 'f.mp4': 'is a video'}
    for name, message in refused.items():
        with pytest.raises(ValueError, match=message):
            image_files(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='absent'):
        image_files(tmp_path / 'absent')


@pytest.mark.parametrize('config', ['upernet_vit_mpvg_sample', 'classifier_vit_mpvg_sample'])
def test_a_broken_image_is_named(config, repo, sample_data, tmp_path):
    model = open_model(repo / f'configs/sample/{config}.py', 'none')
    (file,) = image_files(sample_data / 'images/val', 1)
    for content in (b'', b'not an image', file.read_bytes()[:2000]):
        broken = tmp_path / 'broken.jpg'
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r'broken\.jpg cannot be used: '):
            model.read_images([broken], (32, 32))


@pytest.mark.parametrize(('channels', 'mode'), [(1, 'L'), (4, 'RGBA')])
def test_images_of_other_channels(channels, mode, repo, tmp_path):
    color_type = {1: 'grayscale', 4: 'unchanged'}[channels]
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{repo}/configs/sample/upernet_vit_mpvg_sample.py'\n"
        f'model = dict(backbone=dict(in_channels={channels}), data_preprocessor=dict('
        'mean=[10.0], std=[2.0], bgr_to_rgb=False))\n'
        'test_dataloader = dict(dataset=dict(pipeline=['
        f"dict(type='LoadImageFromFile', color_type='{color_type}')]))\n"
    )
    model = open_model(config, 'none')
    values = np.arange(6 * 9 * channels, dtype=np.uint8).reshape(6, 9, channels)
    Image.fromarray(values.squeeze(), mode).save(tmp_path / 'image.png')
    read = model.read_images([tmp_path / 'image.png'], (6, 9))
    stored = torch.from_numpy(values).permute(2, 0, 1).float()
    # A file is RGBA, what is read is BGRA.
    expected = stored if channels == 1 else stored[[2, 1, 0, 3]]
    torch.testing.assert_close(read[0], (expected - 10) / 2)
    with torch.no_grad():
        model.vit(model.read_images([tmp_path / 'image.png'], (48, 64)))

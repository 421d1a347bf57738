"""A training step of the two main configs, on sample images: every parameter gets a gradient."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope

SAMPLES = {
    'mask_rcnn': 'sample/mask_rcnn_vit_mpvg_sample.py',
    'upernet': 'sample/upernet_vit_mpvg_sample.py',
}


def training_loss(repo, sample_data, task, delivery='mpvg'):
    """The loss of a model on its task's sample images, and the model."""
    cfg = Config.fromfile(repo / f'configs/{task}_vit_mpvg.py')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.update(pe_delivery=delivery, drop_path_rate=0.0)
    if task == 'upernet':
        cfg.model.data_preprocessor.size = (160, 160)
    else:
        # 512 boxes an image take half of the time.
        cfg.model.train_cfg.rcnn.sampler.num = 64
    torch.manual_seed(0)
    # SyncBN has no CPU kernel.
    model = revert_sync_batchnorm(MODELS.build(copy.deepcopy(cfg.model))).train()
    data = Config.fromfile(repo / 'configs' / SAMPLES[task]).train_dataloader.dataset
    data.data_root = str(sample_data)
    dataset = DATASETS.build(data)
    batch = model.data_preprocessor(pseudo_collate([dataset[0], dataset[1]]), training=True)
    loss, logged = model.parse_losses(model(**batch, mode='loss'))
    return model, loss, logged


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('task', SAMPLES)
def test_every_parameter_receives_a_gradient(repo, sample_data, task, delivery):
    model, loss, logged = training_loss(repo, sample_data, task, delivery)
    assert all(torch.isfinite(value).all() for value in logged.values())
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert not without
    # A backbone's gradient that is exactly zero would be a path that is not open.
    still = [name for name, p in model.backbone.named_parameters() if not p.grad.any()]
    assert not still


def test_segmenter_does_not_squeeze_images_that_are_no_multiple_of_the_stride(repo):
    """mmseg scales logits to the image's size, while the map covers whole patches."""
    cfg = Config.fromfile(repo / 'configs' / SAMPLES['upernet'])
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(cfg.model)).eval()
    from mmseg.structures import SegDataSample

    image = torch.randint(0, 256, (3, 97, 123), dtype=torch.uint8)
    sample = SegDataSample(metainfo=dict(img_shape=(97, 123), ori_shape=(97, 123)))
    with torch.no_grad():
        (result,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
        padded = torch.zeros(3, 128, 128, dtype=torch.uint8)
        padded[:, :97, :123] = image
        normalized = (padded.flip(0)[None].float() - model.data_preprocessor.mean) / (
            model.data_preprocessor.std
        )
        # Padding comes after the normalization.
        normalized[..., 97:, :] = 0
        normalized[..., 123:] = 0
        logits = model.decode_head(model.extract_feat(normalized))
    expected = torch.nn.functional.interpolate(
        logits, (128, 128), mode='bilinear', align_corners=False
    )[0, :, :97, :123]
    assert result.seg_logits.data.shape == (6, 97, 123)
    assert torch.allclose(result.seg_logits.data, expected, atol=1e-4)

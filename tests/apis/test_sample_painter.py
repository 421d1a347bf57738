"""Drawn samples: in their place, in their colors, the same every time."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from PIL import Image

from mmpvg.apis.sample_painter import SamplePainter

METAINFO = dict(classes=('one', 'two'), palette=[(255, 0, 0), (0, 0, 255)])


def painter(scope, metainfo=METAINFO):
    init_default_scope(scope)
    visualizer = {'mmdet': 'DetLocalVisualizer', 'mmseg': 'SegLocalVisualizer'}[scope]
    return SamplePainter(
        Config(dict(default_scope=scope, visualizer=dict(type=visualizer))), metainfo
    )


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    Image.new('RGB', (60, 40), (128, 128, 128)).save(path)
    return str(path)


def test_label_maps(image):
    from mmseg.structures import SegDataSample

    labels = torch.full((1, 40, 60), 255)
    labels[:, :20, :30], labels[:, 20:, 30:] = 0, 1
    sample = SegDataSample(metainfo=dict(img_path=image))
    sample.gt_sem_seg, sample.pred_sem_seg = PixelData(data=labels), PixelData(data=labels.flip(1))
    draws = painter('mmseg')
    drawn = np.asarray(draws.ground_truth(sample, 3)).astype(int)
    assert drawn.shape == (120, 180, 3)
    red, blue = drawn[:60, :90].mean((0, 1)), drawn[60:, 90:].mean((0, 1))
    assert red[0] > red[2] + 100 and blue[2] > blue[0] + 100
    assert np.ptp(drawn[:60, 90:].mean((0, 1))) < 1, 'what does not count has no color'
    assert np.array_equal(np.asarray(draws.prediction(sample, 3)), drawn[::-1, :])
    # Without a palette, classes have colors too.
    plain = painter('mmseg', dict(classes=METAINFO['classes']))
    assert len(set(plain.class_colors.values())) == 2
    plain.ground_truth(sample)


def test_instances_are_drawn_alike_each_time(image):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    masks = np.zeros((2, 40, 60), np.uint8)
    masks[0, 5:20, 5:25], masks[1, 20:35, 30:55] = 1, 1
    boxes = torch.tensor([[5.0, 5, 25, 20], [30, 20, 55, 35]])
    labels = torch.tensor([0, 1])
    sample = DetDataSample(metainfo=dict(img_path=image))
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=labels, masks=BitmapMasks(masks.copy(), 40, 60)
    )
    sample.pred_instances = InstanceData(
        bboxes=boxes.clone(),
        labels=labels,
        scores=torch.tensor([0.9, 0.4]),
        masks=torch.from_numpy(masks).bool(),
    )
    draws = painter('mmdet')
    state = np.random.get_state()[1].copy()
    truth, found = (
        np.asarray(draw(sample, 2)).astype(int) for draw in (draws.ground_truth, draws.prediction)
    )
    assert truth.shape == (80, 120, 3)
    plain = np.asarray(draws.image(sample, 2)).astype(int)
    changed = [np.abs(drawn - plain)[45:65, 65:105].sum(2).mean() > 50 for drawn in (truth, found)]
    assert changed == [True, False], 'the second detection scores too little'
    assert np.abs(found - plain)[15:35, 15:45].sum(2).mean() > 50
    # Neither the sample nor the random numbers of others have changed.
    assert torch.equal(sample.gt_instances.bboxes, boxes)
    assert np.array_equal(np.random.get_state()[1], state)
    np.random.rand()
    assert np.array_equal(np.asarray(draws.ground_truth(sample, 2)), truth)
    del sample.pred_instances.masks
    without = np.asarray(draws.prediction(sample, 2)).astype(int)
    assert 0 < np.abs(without - plain).sum() < np.abs(found - plain).sum()


def test_images_are_turned_and_scaled_as_the_model_reads_them(tmp_path):
    from mmengine.structures import BaseDataElement

    draws = painter('mmseg')
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10] = (200, 40, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / 'turned.jpg', exif=exif, quality=95)
    turned = draws.image(BaseDataElement(metainfo=dict(img_path=str(tmp_path / 'turned.jpg'))))
    assert turned.size == (20, 30)
    red = np.asarray(turned)[..., 0].astype(int)
    assert red[:, 15:].mean() > 150 > 50 > red[:, :5].mean()
    deep = np.full((20, 30), 0x5500, np.uint16)
    Image.fromarray(deep).save(tmp_path / 'deep.png')
    shown = draws.image(BaseDataElement(metainfo=dict(img_path=str(tmp_path / 'deep.png'))))
    assert np.asarray(shown).mean() == pytest.approx(0x55, abs=1)


@pytest.mark.parametrize('palette', ['random', [(1, 2, 3)]])
def test_what_is_no_palette_of_the_classes_is_replaced(palette):
    init_default_scope('mmseg')
    draws = SamplePainter(
        Config(dict(default_scope='mmseg', visualizer=None)), {**METAINFO, 'palette': palette}
    )
    assert len(set(draws.class_colors.values())) == 2

"""Label maps that training would misread are found, each with what is wrong with it."""

import mmseg.datasets  # noqa: F401
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from mmpvg.datasets.checks.finding import Finding, in_evaluation
from mmpvg.datasets.checks.label_maps import (
    check_label_map,
    check_label_maps,
    check_single_class_head,
)

LABELS = np.arange(48 * 64).reshape(48, 64) % 5


def save(path, labels, dtype=np.uint8, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(labels).astype(dtype), mode).save(path)
    return str(path)


def problems(findings):
    return [finding.problem for finding in findings]


def loaded(path, reduce_zero_label=False):
    """What mmseg makes of it."""
    info = dict(seg_map_path=path, reduce_zero_label=reduce_zero_label, seg_fields=[])
    return LoadAnnotations()(info)['gt_seg_map']


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_whole_maps_have_no_findings(tmp_path, dtype, reduce_zero_label):
    path = save(tmp_path / 'a.tif', np.where(LABELS == 3, 255, LABELS), dtype)
    assert check_label_map(path, 5, reduce_zero_label, image_size=(64, 48)) == []


def test_a_palette_is_no_color(tmp_path):
    image = Image.fromarray(LABELS.astype(np.uint8))
    image.putpalette(list(range(30)))
    image.save(tmp_path / 'a.png')
    assert check_label_map(str(tmp_path / 'a.png'), 5, False) == []
    # OpenCV makes colors of it.
    found = check_label_map(str(tmp_path / 'a.png'), 5, False, backend='cv2')
    assert problems(found) == ['label map with channels']


def test_labels_beyond_8_bits(tmp_path):
    path = save(tmp_path / 'a.png', np.where(LABELS == 4, 293, LABELS), np.uint16)
    (finding,) = check_label_map(path, 40, False)
    assert finding.problem == 'labels beyond 8 bits' and '293 becomes 37' in finding.detail
    assert loaded(path).max() == 37


@pytest.mark.parametrize(
    'labels, mode, detail',
    [
        (np.stack([LABELS] * 3, 2), None, 'repeated in 3 channels'),
        (np.stack([LABELS, LABELS * 2, LABELS], 2), None, '3 channels; save an image of one'),
        (np.stack([LABELS] * 3 + [LABELS + 250], 2), None, 'repeated in 4 channels'),
        (np.stack([LABELS, LABELS], 2), 'LA', '2 channels'),
    ],
)
def test_channels(tmp_path, labels, mode, detail):
    path = save(tmp_path / 'a.png', labels, mode=mode)
    (finding,) = check_label_map(path, 5, False)
    assert finding.problem == 'label map with channels' and detail in finding.detail
    assert loaded(path).ndim == 3
    assert in_evaluation(finding).effect == 'stops evaluation'


def test_labels_of_no_class(tmp_path):
    path = save(tmp_path / 'a.png', LABELS)
    (finding,) = check_label_map(path, 4, False)
    assert (finding.problem, finding.effect) == ('label outside the classes', 'stops')
    assert '[4]' in finding.detail and path not in finding.detail
    assert in_evaluation(finding).effect == 'unnoticed'
    assert check_label_map(path, 4, True) == []
    assert problems(check_label_map(path, 5, False, ignore_index=1)) == []
    path = save(tmp_path / 'b.png', np.full((48, 64), 255))
    assert problems(check_label_map(path, 5, False)) == ['no labeled pixel']
    (finding,) = check_label_map(save(tmp_path / 'c.png', LABELS), 1, False)
    assert 'there is 1 class, labeled 0;' in finding.detail


def test_files_that_are_broken(tmp_path):
    assert problems(check_label_map(str(tmp_path / 'gone.png'), 5, False)) == ['mask missing']
    path = tmp_path / 'a.png'
    save(path, np.random.default_rng(0).integers(0, 5, (48, 64)))
    (finding,) = check_label_map(str(path), 5, False, image_size=(48, 64))
    assert finding.problem == 'mask of another size' and '64x48' in finding.detail
    path.write_bytes(path.read_bytes()[:300])
    (finding,) = check_label_map(str(path), 5, False)
    assert finding.problem == 'mask cannot be decoded'
    assert in_evaluation(finding).effect == 'stops evaluation'


def test_a_map_above_pils_limit(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.png', LABELS)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    (finding,) = check_label_map(path, 5, False)
    assert finding.problem == 'mask cannot be decoded'
    assert "imdecode_backend='cv2'" in finding.detail
    assert check_label_map(path, 5, False, backend='cv2') == []


@pytest.fixture
def split(tmp_path):
    """Checks a split of given label maps."""

    def check(maps, num_classes, reduce_zero_label=False, sample=None, exif=None, training=True):
        init_default_scope('mmseg')
        for number, labels in enumerate(maps):
            save(tmp_path / f'maps/{number}.png', labels)
            (tmp_path / 'images').mkdir(exist_ok=True)
            image = Image.new('RGB', np.shape(labels)[1::-1])
            image.save(tmp_path / f'images/{number}.jpg', **(dict(exif=exif) if exif else {}))
        dataset = DATASETS.build(
            dict(
                type='BaseSegDataset',
                data_root=str(tmp_path),
                metainfo=dict(classes=tuple('abcdefgh'[:num_classes])),
                data_prefix=dict(img_path='images', seg_map_path='maps'),
                reduce_zero_label=reduce_zero_label,
                pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
            )
        )
        found, check.pixels = check_label_maps(dataset, num_classes, sample, training)
        return found

    return check


def test_a_whole_split_has_no_findings(split):
    maps = [LABELS, np.where(LABELS == 0, 255, LABELS)]
    assert split(maps, 5) == []
    assert split(maps, 4, reduce_zero_label=True) == []


def test_masks_of_0_and_255(split):
    (finding,) = split([(LABELS > 2) * 255, LABELS * 0], 2)
    assert (finding.problem, finding.effect) == ('masks of 0 and 255', 'senseless')
    # Which is no mistake where both classes are there.
    assert split([np.where(LABELS > 2, 255, LABELS == 1)], 2) == []


@pytest.mark.parametrize('number', [2, 5])
def test_reduce_zero_label_over_a_class(split, number):
    (finding,) = split([LABELS % number] * 3, number, reduce_zero_label=True)
    assert finding.problem == 'reduce_zero_label over a class'
    assert finding.effect == 'senseless'
    assert f'no pixel is {number}' in finding.detail
    assert '100% of the 3 maps read' in finding.detail


def with_share_of_0(share):
    """A map whose other labels are 1 to 3."""
    labels = np.arange(100 * 100) % 3 + 1
    labels[: round(share * labels.size)] = 0
    return labels.reshape(100, 100)


@pytest.mark.parametrize(
    'maps, settings, effect',
    [
        ([with_share_of_0(0.21)] * 3, {}, 'senseless'),
        # A border of void around images without the rare last class.
        ([with_share_of_0(0.19)] * 3, {}, 'unnoticed'),
        ([with_share_of_0(0.21)] * 3, dict(training=False), 'unnoticed'),
        ([with_share_of_0(0.21)] * 3, dict(sample=2), 'unnoticed'),
        ([with_share_of_0(0.6)] * 2 + [with_share_of_0(0)], {}, 'senseless'),
        ([with_share_of_0(0.9)] + [with_share_of_0(0)], {}, None),
    ],
)
def test_whether_0_is_a_border_or_a_class(split, maps, settings, effect):
    found = split(maps, 4, reduce_zero_label=True, **settings)
    expected = [('reduce_zero_label over a class', effect)] if effect else []
    assert [(f.problem, f.effect) for f in found if f.effect != 'noted'] == (
        expected or [('class without a pixel', 'unnoticed')]
    )


def test_classes_without_a_pixel(split):
    found = split([LABELS] * 3, 7)
    assert problems(found) == ['class without a pixel'] * 2
    assert "'f' (label 5) in 3 label maps" in found[0].detail
    assert split([LABELS] * 3, 7, sample=2) == [], 'they may be in the third'


def test_images_are_compared_with_their_maps(split):
    exif = Image.Exif()
    exif[0x0112] = 6
    (finding,) = split([LABELS] * 3, 5, exif=exif)
    assert finding.problem == 'EXIF orientation unlike the annotations'
    assert finding.effect == 'stops' and '3 of 3 files' in finding.detail
    (finding,) = split([LABELS] * 3, 5, exif=exif, training=False)
    assert finding.effect == 'senseless'
    exif[0x0112] = 3
    found = split([LABELS] * 3, 5, exif=exif)
    assert problems(found) == ['EXIF orientation that no size confirms'] * 3


def test_what_is_wrong_with_most_maps_stops(split):
    nothing = np.full_like(LABELS, 255)
    found = split([LABELS, LABELS, nothing, nothing], 5)
    assert [(f.problem, f.effect) for f in found] == [('no labeled pixel', 'left out')] * 2
    (finding,) = split([LABELS, nothing, nothing, nothing], 5)
    assert (finding.problem, finding.effect) == ('no labeled pixel', 'senseless')
    assert '3 of 4 files' in finding.detail and finding.path.endswith('maps')


def test_pixels_are_counted_by_class(split):
    maps = [LABELS, np.where(LABELS == 0, 255, 1)]
    assert split(maps, 5) == []
    expected = [sum(int((labels == label).sum()) for labels in maps) for label in range(5)]
    assert list(split.pixels.items()) == list(zip('abcde', expected))


def test_the_sample_data_have_no_findings(repo, sample_data):
    cfg = Config.fromfile(repo / 'configs/sample/upernet_vit_mpvg_sample.py')
    init_default_scope('mmseg')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(dict(loader.dataset, data_root=f'{sample_data}/'))
        # Four images need not hold all classes.
        found = [
            f
            for f in check_label_maps(dataset, 6, jobs=2)[0]
            if f.problem != 'class without a pixel'
        ]
        assert found == []
    assert check_single_class_head(cfg.model) == []


def head(**changes):
    base = dict(type='FCNHead', in_channels=4, channels=4, num_convs=1, norm_cfg=dict(type='BN'))
    return {**base, **changes}


@pytest.mark.parametrize(
    'changes, fix',
    [
        (dict(num_classes=1), 'num_classes=2'),
        (dict(num_classes=2, out_channels=1), 'use_sigmoid=True'),
        (dict(num_classes=2), None),
        (dict(num_classes=1, loss_decode=dict(type='DiceLoss')), 'num_classes=2'),
        (
            dict(
                num_classes=2,
                out_channels=1,
                loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
            ),
            None,
        ),
    ],
)
def test_heads_of_one_class(changes, fix):
    found = check_single_class_head(dict(decode_head=head(**changes)))
    assert problems(found) == ['head of one class'] * (fix is not None)
    assert all(fix in f.detail and f.path == 'model.decode_head' for f in found)
    if 'loss_decode' not in changes:
        # The oracle: whether anything is learned from labels of 0.
        init_default_scope('mmseg')
        module = MODELS.build(dict(head(**changes)))
        logits = module([torch.randn(2, 4, 8, 8)])
        loss = module.loss_decode(logits, torch.zeros(2, 8, 8, dtype=torch.long))
        assert (float(loss.detach()) == 0) == (fix is not None)


def test_other_heads_of_one_output():
    found = check_single_class_head(
        dict(
            decode_head=dict(type='Mask2FormerHead', num_classes=1, loss_cls=dict()),
            auxiliary_head=[head(num_classes=2), head(num_classes=1)],
            head=dict(type='LinearClsHead', num_classes=1),
        )
    )
    assert [finding.path for finding in found] == ['model.auxiliary_head', 'model.head']


def test_effects_in_evaluation():
    finding = Finding('a.jpg', 'size unlike its annotations', '', 'replaced')
    assert in_evaluation(finding).effect == 'unnoticed'
    finding = Finding('a.jpg', 'no object', '', 'left out')
    assert in_evaluation(finding) == finding

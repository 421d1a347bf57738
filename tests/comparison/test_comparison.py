"""What is compared with what, and which images are shown."""

import math

import pytest

from mmpvg.comparison.candidates import load_candidates, same_test_set
from mmpvg.comparison.comparison import Comparison, ImagePair, Pair, compare

SEGMENTER = 'configs/sample/upernet_vit_mpvg_sample.py'
DETECTOR = 'configs/sample/mask_rcnn_vit_mpvg_sample.py'


def test_pairs():
    assert Pair.of(0.25, 0.75).difference == 0.5
    for nothing in (None, math.nan, -1):
        assert Pair.of(nothing, 0.5) == Pair(None, 0.5)
        assert Pair.of(0.5, nothing).difference is None


def comparison(*differences):
    images = [
        ImagePair(f'{i}.jpg', i, Pair(0.5, None if each is None else 0.5 + each))
        for i, each in enumerate(differences)
    ]
    return Comparison((), None, {}, {}, images)


def places(groups):
    return tuple([image.index for image in images] for images in groups)


def test_the_largest_differences_either_way_are_shown():
    found = comparison(0.25, -0.125, 0.0, 0.5, -0.25, None, 0.375, 0.0625)
    assert places(found.extremes(4)) == ([3, 6], [4, 1])
    assert places(found.extremes(3)) == ([3, 6], [4])
    assert places(found.extremes(1)) == ([3], [])
    assert places(found.extremes(0)) == ([], [])
    # Where one kind has fewer, the other has more; what is equal is never shown.
    assert places(found.extremes(6)) == ([3, 6, 0, 7], [4, 1])
    assert places(found.extremes(99)) == places((found.gains, found.losses))
    assert places(comparison(-0.25, -0.5, -0.125, 0.0).extremes(2)) == ([], [1, 0])
    assert places(comparison(0.0, 0.0, None).extremes(2)) == ([], [])


@pytest.fixture
def segmenter(repo, sample_data, tmp_path):
    """Config and checkpoint of a segmenter on the sample data; text is added to the config."""
    import torch

    from mmpvg.engine.config.config_model import build_config_model

    def make(name='a', text=''):
        config = tmp_path / f'{name}.py'
        config.write_text(
            f"_base_ = '{repo / SEGMENTER}'\n"
            f"test_dataloader = dict(dataset=dict(data_root='{sample_data}/'))\n{text}\n"
        )
        _, model = build_config_model(str(config))
        checkpoint = tmp_path / f'{name}.pth'
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, checkpoint)
        return config, checkpoint

    return make


def test_both_see_the_images_of_a_through_their_own_pipelines(segmenter):
    a, b = (
        segmenter(),
        segmenter(
            'b',
            'test_pipeline = [dict(type="LoadImageFromFile"), '
            'dict(type="Resize", scale_factor=0.5, keep_ratio=True), '
            'dict(type="LoadAnnotations"), dict(type="PackSegInputs")]\n'
            'test_dataloader["dataset"].update(pipeline=test_pipeline, data_prefix=dict('
            'img_path="images/train", seg_map_path="annotations/train"))\n',
        ),
    )
    first, second = load_candidates(*zip(a, b))
    assert not same_test_set(first.cfg, second.cfg)
    assert same_test_set(first.cfg, first.cfg)
    assert len(first.dataset) == len(second.dataset) == 4
    for own, other in zip(first.dataset, second.dataset):
        path = own['data_samples'].img_path
        assert 'images/val' in path and other['data_samples'].img_path == path
        assert other['inputs'].shape[1] == (own['inputs'].shape[1] + 1) // 2
        assert other['data_samples'].gt_sem_seg.shape == own['data_samples'].gt_sem_seg.shape


def test_other_classes_are_refused(segmenter):
    classes = ('background', 'ball', 'box', 'cone', 'star', 'torus')
    text = (
        f'test_dataloader["dataset"]["metainfo"] = dict(classes={classes}, palette=[(0, 0, 0)] * 6)'
    )
    with pytest.raises(ValueError, match=r'ring \(6\) and .* torus \(6\)'):
        load_candidates(*zip(segmenter(), segmenter('b', text)))
    half = segmenter('c', 'test_cfg = dict(fp16=True)')
    with pytest.raises(ValueError, match='test_cfg.fp16=False'):
        load_candidates(*zip(half, half))


def test_what_does_not_fit_is_refused(repo, segmenter, tmp_path):
    config, checkpoint = segmenter()
    with pytest.raises(FileNotFoundError, match='config nowhere.py does not exist'):
        load_candidates([config, 'nowhere.py'], [checkpoint] * 2)
    with pytest.raises(FileNotFoundError, match='checkpoint .*nowhere.pth does not exist'):
        load_candidates([config] * 2, [checkpoint, tmp_path / 'nowhere.pth'])
    with pytest.raises(ValueError, match='is of mmseg, .* of mmdet'):
        load_candidates([config, repo / DETECTOR], [checkpoint] * 2)
    with pytest.raises(ValueError, match="default_scope 'mmpretrain'; detectors"):
        load_candidates(
            [config, repo / 'configs/sample/classifier_vit_mpvg_sample.py'], [checkpoint] * 2
        )
    config = segmenter('wide', 'model = dict(decode_head=dict(channels=32))')[0]
    with pytest.raises(ValueError, match='does not fit the model of the config: .*decode_head'):
        load_candidates([config] * 2, [checkpoint] * 2)
    config = segmenter('few', 'model = dict(decode_head=dict(num_classes=5))')[0]
    with pytest.raises(ValueError, match='num_classes=5, but test_dataloader of'):
        load_candidates([config] * 2, [checkpoint] * 2)
    gone = 'test_dataloader["dataset"]["data_root"] = "nowhere/"'
    config = tmp_path / 'gone.py'
    config.write_text(
        f"_base_ = '{repo / SEGMENTER}'\ntest_dataloader = dict(dataset=dict())\n{gone}"
    )
    with pytest.raises(FileNotFoundError, match='nowhere/'):
        load_candidates([config] * 2, [checkpoint] * 2)


def test_both_are_measured_by_the_evaluator_of_a(segmenter):
    """And in the order of the test set, one image after the other."""
    a = segmenter('a', 'test_dataloader["batch_sampler"] = dict(type="mmpvg.NoSuchSampler")')
    b = segmenter('b', "test_evaluator = dict(type='IoUMetric', iou_metrics=['mDice'])")
    found = compare(load_candidates(*zip(a, b)))
    assert set(found.metrics) == {'aAcc', 'mIoU', 'mAcc'}
    assert None not in {pair.b for pair in found.metrics.values()}
    assert [image.path[-10:] for image in found.images] == [f'{i:06d}.jpg' for i in range(4)]

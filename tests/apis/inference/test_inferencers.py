"""Upstream's inferencers with the right weights and class names, or an error."""

import logging

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmpvg.apis.inference import Predictor, build_inferencer

SAMPLE = ('ball', 'box', 'cone', 'star', 'ring')


@pytest.fixture
def changed(tmp_path):
    """Writes a checkpoint again, its content changed by a function."""

    def write(model, change):
        content = torch.load(model.checkpoint, weights_only=True)
        torch.save(change(content) or content, tmp_path / 'changed.pth')
        return str(tmp_path / 'changed.pth')

    return write


def test_upstreams_classes_are_built(detector, segmenter):
    from mmdet.apis import DetInferencer
    from mmseg.apis import MMSegInferencer

    for model, upstream in ((detector, DetInferencer), (segmenter, MMSegInferencer)):
        cfg = model.cfg
        before = cfg.pretty_text
        inferencer = build_inferencer(cfg, model.checkpoint)
        assert isinstance(inferencer, upstream)
        assert not inferencer.model.training
        saved = torch.load(model.checkpoint, weights_only=True)['state_dict']
        loaded = inferencer.model.state_dict()
        assert all(torch.equal(loaded[key].cpu(), saved[key]) for key in saved)
        assert cfg.pretty_text == before


@pytest.mark.parametrize('kind', ['weights alone', 'nothing but tensors', 'no names', 'untrained'])
def test_names_come_from_the_config_where_the_checkpoint_has_none(
    detector, segmenter, changed, kind
):
    change = {
        'weights alone': lambda content: content.pop('meta') and None,
        'nothing but tensors': lambda content: content['state_dict'],
        # As mmseg saves them for data without names.
        'no names': lambda content: content['meta'].update(dataset_meta=dict(classes=None)),
    }
    for model, names in ((detector, SAMPLE), (segmenter, ('background', *SAMPLE))):
        path = None if kind == 'untrained' else changed(model, change[kind])
        predictor = Predictor(model.cfg, path)
        assert predictor.classes == names
        assert predictor.palette[-1] == (204, 121, 167)


def test_names_of_the_checkpoint_come_first(segmenter, changed):
    def rename(content):
        content['meta'] = dict(dataset_meta=dict(CLASSES=list('uvwxyz')))

    predictor = Predictor(segmenter.cfg, changed(segmenter, rename))
    assert predictor.classes == tuple('uvwxyz')
    assert len(predictor.palette) == 6
    # The first generation's.
    path = changed(segmenter, lambda content: content.update(meta=dict(CLASSES=tuple('abcdef'))))
    assert Predictor(segmenter.cfg, path).classes == tuple('abcdef')


@pytest.mark.parametrize('palette', ['random', [(1, 2, 3)]])
def test_without_a_palette_of_the_classes_colors_are_mmsegs(segmenter, changed, palette):
    from mmseg.datasets import BaseSegDataset

    meta = dict(dataset_meta=dict(classes=tuple('uvwxyz'), palette=palette))
    path = changed(segmenter, lambda content: content.update(meta=meta))
    expected = BaseSegDataset(metainfo=dict(classes=tuple('uvwxyz')), lazy_init=True, pipeline=[])
    found = Predictor(segmenter.cfg, path).palette
    assert found == list(map(tuple, expected.metainfo['palette']))


def test_pictures_come_out_alike(detector):
    """mmdet varies the colors of masks at random."""
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    predictor = Predictor(detector.cfg, detector.checkpoint)
    (sample,) = predictor([image])
    first, second = (predictor.draw(image, sample, score_thr=0) for _ in range(2))
    assert np.array_equal(first, second) and not np.array_equal(first, image[..., ::-1])


def test_names_that_nobody_tells_are_asked_for(segmenter, changed):
    cfg = segmenter.cfg
    cfg.test_dataloader.dataset.pop('metainfo')
    path = changed(segmenter, lambda content: content.pop('meta') and None)
    with pytest.raises(ValueError, match='neither .* names of the classes; set --cfg-options test'):
        build_inferencer(cfg, path)
    cfg.test_dataloader.dataset.metainfo = dict(classes=tuple('uvw'))
    message = 'num_classes=6, but .*changed.pth has 3 classes'
    with pytest.raises(ValueError, match=message):
        build_inferencer(cfg, path)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda state: (
                state.pop('backbone.blocks.0.mlp.0.weight', None)
                or state.pop(next(key for key in state if key.startswith('backbone.blocks.0')))
            ),
            r'missing keys: backbone\.blocks\.0',
        ),
        (
            lambda state: state.update({'backbone.unheard.of': torch.zeros(1)}),
            r'unexpected key: backbone\.unheard\.of',
        ),
        (
            lambda state: state.update({'decode_head.conv_seg.bias': torch.zeros(4)}),
            r'size mismatch for conv_seg\.bias|size mismatch for decode_head\.conv_seg\.bias',
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(segmenter, changed, change, message):
    def of_state(content):
        change(content['state_dict'])

    path = changed(segmenter, of_state)
    with pytest.raises(ValueError, match=rf'changed\.pth does not fit the model.*{message}'):
        build_inferencer(segmenter.cfg, path)


def test_weights_of_another_model_are_refused_in_few_words(detector, segmenter):
    with pytest.raises(ValueError) as error:
        build_inferencer(detector.cfg, segmenter.checkpoint)
    assert 'decode_head' in str(error.value) and 'rpn_head' in str(error.value)
    assert len(str(error.value)) < 1500


def test_what_is_no_checkpoint(segmenter, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth does not exist'):
        build_inferencer(segmenter.cfg, str(tmp_path / 'nowhere.pth'))
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='list.pth holds no weights but a list'):
        build_inferencer(segmenter.cfg, str(tmp_path / 'list.pth'))
    (tmp_path / 'broken.pth').write_bytes(b'PK')
    with pytest.raises(ValueError, match='broken.pth .2 bytes.: it is empty, truncated'):
        build_inferencer(segmenter.cfg, str(tmp_path / 'broken.pth'))


def test_the_process_reads_checkpoints_as_before(segmenter):
    before = dict(CheckpointLoader._schemes)
    build_inferencer(segmenter.cfg, segmenter.checkpoint)
    assert CheckpointLoader._schemes == before


def test_what_cannot_be_predicted_with(repo, segmenter):
    cfg = Config.fromfile(repo / 'configs/sample/classifier_vit_mpvg_sample.py')
    message = "default_scope of the config is 'mmpretrain': use mmpretrain.apis.ImageClassific"
    with pytest.raises(ValueError, match=message):
        build_inferencer(cfg, None)
    with pytest.raises(ValueError, match='default_scope of the config is None$'):
        build_inferencer(Config(dict(model=dict(type='X'))), None)
    with pytest.raises(ValueError, match="device 'toaster' cannot be used"):
        build_inferencer(segmenter.cfg, segmenter.checkpoint, 'toaster')
    cfg = segmenter.cfg
    cfg.pop('test_dataloader')
    with pytest.raises(ValueError, match='no test_dataloader'):
        build_inferencer(cfg, None)


def test_a_config_may_say_it_in_other_ways(segmenter):
    """Scopes before names, a wrapped data set, the preprocessor beside the model, no visualizer."""
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    plain = Predictor(segmenter.cfg, segmenter.checkpoint)
    cfg = segmenter.cfg
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.pop('visualizer')
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline[0].type = 'mmseg.LoadImageFromFile'
    dataset.pipeline[1].type = 'mmseg.LoadAnnotations'
    cfg.test_dataloader.dataset = dict(type='RepeatDataset', times=1, dataset=dataset)
    other = Predictor(cfg, segmenter.checkpoint)
    maps = [p.label_map(p([image])[0]) for p in (plain, other)]
    assert np.array_equal(*maps) and len(np.unique(maps[0])) > 1
    pictures = [p.draw(image, p([image])[0]) for p in (plain, other)]
    assert np.array_equal(*pictures) and pictures[0].shape == image.shape


def test_nothing_is_said_of_other_data_sets(detector, segmenter, changed, caplog, recwarn):
    caplog.set_level(logging.WARNING)
    for model in (detector, segmenter):
        build_inferencer(model.cfg, changed(model, lambda content: content['state_dict']))
    said = caplog.text + ' '.join(str(warning.message) for warning in recwarn)
    assert 'COCO' not in said and 'ityscapes' not in said and 'palette' not in said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_a_gpu_is_the_default(segmenter):
    assert Predictor(segmenter.cfg, segmenter.checkpoint).device == 'cuda:0'
    assert Predictor(segmenter.cfg, segmenter.checkpoint, 'cpu').device == 'cpu'

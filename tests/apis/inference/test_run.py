"""Images, folders and videos become files; what is broken is named; the evaluation is mmdet's."""

import contextlib
import io
import json
import shutil

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmpvg.apis.cli import test as run_test
from mmpvg.apis.inference import Predictor, predict_to_folder
from mmpvg.registry import TRANSFORMS


@TRANSFORMS.register_module(force=True)
class RaiseAt(BaseTransform):
    """Raises at the images that start with a pixel of this value."""

    def __init__(self, value, error):
        self.value, self.error = value, error

    def transform(self, results):
        if results['img'][0, 0, 0] == self.value:
            raise {'value': ValueError('too small for a patch'), 'stop': KeyboardInterrupt}[
                self.error
            ]
        return results


def raising(model, value, error):
    """The config of a model whose pipeline raises."""
    cfg = model.cfg
    step = dict(type='mmpvg.RaiseAt', value=value, error=error)
    cfg.test_dataloader.dataset.pipeline.insert(1, step)
    return cfg


def flat(path, value, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, value, value)).save(path)


def predict(model, source, out, cfg=None, **options):
    return predict_to_folder(source, cfg or model.cfg, model.checkpoint, out, **options)


def read(path):
    return json.loads(path.read_text())


def stats(truth, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.fixture(scope='module')
def detected(detector, val_images, tmp_path_factory):
    out = tmp_path_factory.mktemp('detected')
    return out, predict(detector, val_images, out)


@pytest.fixture(scope='module')
def annotations(detected, sample_data, tmp_path_factory):
    """Ground truth that the untrained model is right about in part; ids are like no others."""
    out, _ = detected
    content = read(sample_data / 'annotations/instances_val.json')
    images = {image['id']: image for image in read(out / 'images.json')['images']}
    new = {image['file_name']: 1000 - 7 * image['id'] for image in content['images']}
    for image in content['images']:
        image['id'] = new[image['file_name']]
    category = {1: 40, 2: 3, 3: 77, 4: 12, 5: 9}
    content['categories'] = [dict(id=8, name='unicorn')] + [
        dict(c, id=category[c['id']]) for c in content['categories']
    ]
    chance = np.random.default_rng(0)
    kept = [p for p in read(out / 'predictions.json') if chance.random() < 0.3]
    content['annotations'] = [
        dict(
            id=index + 1,
            image_id=new[images[p['image_id']]['file_name']],
            category_id=category[p['category_id']],
            bbox=(np.array(p['bbox']) + chance.uniform(-2, 2, 4)).clip(1).tolist(),
            segmentation=p['segmentation'],
            area=p['bbox'][2] * p['bbox'][3],
            iscrowd=0,
        )
        for index, p in enumerate(kept)
    ]
    path = tmp_path_factory.mktemp('truth') / 'ann.json'
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
@pytest.mark.parametrize('batch_size', [1, 3])
def test_the_json_evaluates_as_tools_test_does(
    detector, val_images, annotations, tmp_path, batch_size
):
    metrics = run_test(
        [detector.config, detector.checkpoint, '--work-dir', str(tmp_path), '--cfg-options']
        + [f'test_dataloader.dataset.data_root={val_images.parents[1]}/']
        + [f'test_dataloader.dataset.ann_file={annotations}']
        + [f'test_evaluator.ann_file={annotations}']
    )
    out = tmp_path / 'out'
    predict(detector, val_images, out, ann_file=annotations, batch_size=batch_size, pictures=False)
    truth = COCO(str(annotations))
    results = read(out / 'predictions.json')
    names = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']
    boxes = stats(truth, results, 'bbox')
    # As mmdet's metric: the size of an object is that of its mask.
    masks = stats(truth, [{k: v for k, v in r.items() if k != 'bbox'} for r in results], 'segm')
    for kind, found in (('bbox', boxes), ('segm', masks)):
        expected = [metrics[f'coco/{kind}_{name}'] for name in names]
        assert 0.02 < expected[0] < 0.9
        assert found[:6] == pytest.approx(expected, abs=6e-4)
    assert read(out / 'images.json')['categories'] == read(annotations)['categories']


def test_detections_of_a_folder(detected, detector, val_images):
    out, report = detected
    names = sorted(path.name for path in val_images.iterdir())
    assert (report.images, report.predicted, report.failed) == (4, 4, [])
    truth = COCO(str(out / 'images.json'))
    assert [image['file_name'] for image in truth.loadImgs([1, 2, 3, 4])] == names
    results = truth.loadRes(str(out / 'predictions.json'))
    assert len(results.anns) == report.detections > 0
    for image in truth.loadImgs([1, 2, 3, 4]):
        with Image.open(val_images / image['file_name']) as file:
            assert file.size == (image['width'], image['height'])
        # The folder has JPEGs, so pictures have the names of the images.
        with Image.open(out / 'pictures' / image['file_name']) as picture:
            assert picture.size == (image['width'], image['height'])
    report_file = read(out / 'report.json')
    assert report_file['predicted'] == 4 and report_file['checkpoint'] == detector.checkpoint


def test_scores_of_what_is_drawn_and_written(detector, val_images, detected, tmp_path):
    image = sorted(val_images.iterdir())[0]
    everything = [r for r in read(detected[0] / 'predictions.json') if r['image_id'] == 1]
    middle = sorted(r['score'] for r in everything)[len(everything) // 2]
    predict(detector, image, tmp_path, score_thr=0.99, json_score_thr=middle)
    written = read(tmp_path / 'predictions.json')
    assert written == [r for r in everything if r['score'] >= middle]
    assert 0 < len(written) < len(everything)
    drawn = np.asarray(Image.open(tmp_path / 'pictures' / image.name), int)
    original = np.asarray(Image.open(image), int)
    assert np.abs(drawn - original).mean() < 3, 'nothing is drawn, but JPEG leaves its traces'
    predict(detector, image, tmp_path, score_thr=0.0)
    drawn = np.asarray(Image.open(tmp_path / 'pictures' / image.name), int)
    assert np.abs(drawn - original).mean() > 10


def test_label_maps_are_those_of_tools_test(segmenter, sample_data, val_images, tmp_path):
    run_test(
        [segmenter.config, segmenter.checkpoint, '--work-dir', str(tmp_path / 'work')]
        + ['--out', str(tmp_path / 'expected'), '--cfg-options']
        + [f'test_dataloader.dataset.data_root={sample_data}/']
    )
    report = predict(segmenter, val_images, tmp_path / 'out', batch_size=3)
    assert report.predicted == 4 and report.detections is None
    seen = set()
    for path in sorted((tmp_path / 'expected').iterdir()):
        labels = np.asarray(Image.open(tmp_path / 'out/masks' / path.name))
        # mmseg writes them as ADE20K's server takes them: from 1.
        assert np.array_equal(labels, np.asarray(Image.open(path)) - 1)
        assert labels.shape == Image.open(val_images / f'{path.stem}.jpg').size[::-1]
        seen.update(np.unique(labels))
    assert len(seen) > 1
    classes = read(tmp_path / 'out/classes.json')
    assert [c['name'] for c in classes][:2] == ['background', 'ball']


def test_what_is_broken_does_not_stop_the_rest(segmenter, val_images, tmp_path):
    source = tmp_path / 'in'
    shutil.copytree(val_images, source)
    good = sorted(source.iterdir())[0]
    (source / 'cut.jpg').write_bytes(good.read_bytes()[:-500])
    (source / 'deep').mkdir()
    (source / 'deep/empty.png').write_bytes(b'')
    (source / 'deep/text.png').write_text('no image')
    shutil.copy(good, source / 'deep' / good.name)
    (source / 'notes.txt').write_text('of no interest')
    with Image.open(good) as image:
        image.convert('L').save(good.with_suffix('.png'))
    report = predict(segmenter, source, tmp_path / 'out', pictures=False)
    assert (report.images, report.predicted, report.other_files) == (9, 6, 1)
    reasons = {failure['file']: failure['reason'] for failure in report.failed}
    assert list(reasons) == ['cut.jpg', 'deep/empty.png', 'deep/text.png']
    assert reasons['cut.jpg'].startswith('is truncated or damaged')
    assert reasons['deep/empty.png'] == 'is empty'
    assert read(tmp_path / 'out/report.json')['failed'] == report.failed
    for line in ('6 of 9 images', '3 failed:', 'deep/empty.png: is empty', '1 other files'):
        assert line in report.summary()
    masks = {p.relative_to(tmp_path / 'out/masks').as_posix() for p in tmp_path.rglob('*.png')
             if 'masks' in p.parts}  # fmt: skip
    # Two of one name, which differ in the extension, and one in a folder.
    assert {f'{good.name}.png', f'{good.stem}.png.png', f'deep/{good.stem}.png'} <= masks
    assert len(masks) == 6
    assert not (tmp_path / 'out/pictures').exists()


def test_one_of_a_batch_that_fails_takes_no_other_along(detector, tmp_path):
    for index, value in enumerate((10, 20, 30, 40)):
        flat(tmp_path / f'in/{index}.png', value)
    cfg = raising(detector, 20, 'value')
    report = predict(detector, tmp_path / 'in', tmp_path / 'out', cfg, batch_size=4)
    assert report.failed == [dict(file='1.png', reason='ValueError: too small for a patch')]
    assert report.predicted == 3
    assert {i['id'] for i in read(tmp_path / 'out/images.json')['images']} == {1, 3, 4}
    assert sorted(p.stem for p in (tmp_path / 'out/pictures').iterdir()) == ['0', '2', '3']


def test_a_prediction_that_cannot_be_drawn_is_written(segmenter, tmp_path):
    """mmseg has no place for a label there."""
    flat(tmp_path / 'in/dot.png', 10, size=(1, 1))
    flat(tmp_path / 'in/other.png', 20)
    report = predict(segmenter, tmp_path / 'in', tmp_path / 'out')
    assert report.predicted == 2
    (failure,) = report.failed
    assert failure['file'] == 'dot.png'
    assert failure['reason'].startswith('predicted, but not drawn: IndexError')
    with Image.open(tmp_path / 'out/masks/dot.png') as mask:
        assert mask.size == (1, 1)
    assert [p.stem for p in (tmp_path / 'out/pictures').iterdir()] == ['other']


def test_what_was_predicted_before_an_interruption_is_there(detector, tmp_path):
    for index, value in enumerate((10, 20, 30, 40)):
        flat(tmp_path / f'in/{index}.png', value)
    report = predict(detector, tmp_path / 'in', tmp_path / 'out', raising(detector, 30, 'stop'))
    assert report.interrupted and report.predicted == 2
    assert 'then interrupted' in report.summary()
    assert read(tmp_path / 'out/report.json')['interrupted']
    assert {i['id'] for i in read(tmp_path / 'out/images.json')['images']} == {1, 2}
    assert {r['image_id'] for r in read(tmp_path / 'out/predictions.json')} <= {1, 2}
    assert len(list((tmp_path / 'out/pictures').iterdir())) == 2


def test_what_was_predicted_before_a_full_disk_is_there(detector, val_images, tmp_path):
    (tmp_path / 'pictures').write_text('in the way')
    with pytest.raises(OSError):
        predict(detector, val_images, tmp_path)
    assert len(read(tmp_path / 'images.json')['images']) == 1
    assert read(tmp_path / 'report.json')['predicted'] == 1


@pytest.fixture
def clip(tmp_path, val_images):
    """A video of 7 frames, 10 a second, that moves over a picture."""
    picture = cv2.resize(cv2.imread(str(sorted(val_images.iterdir())[0])), (160, 120))
    writer = cv2.VideoWriter(
        str(tmp_path / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (96, 64)
    )
    for shift in range(0, 56, 8):
        writer.write(picture[shift : shift + 64, shift : shift + 96])
    writer.release()
    return tmp_path / 'clip.avi'


def test_notes_of_a_run(segmenter, tmp_path):
    video = tmp_path / 'a.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 1000 / 3, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    report = predict(segmenter, video, tmp_path / 'out')
    assert report.predicted == 1 and not report.failed
    (note,) = report.notes
    assert 'a.mp4 has 333.33 frames a second instead of 333.333' in note
    values = (np.arange(48 * 64, dtype=np.uint16) % 4096).reshape(48, 64)
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/wide.png'), values)
    report = predict(segmenter, tmp_path / 'images', tmp_path / 'out2')
    (note,) = read(tmp_path / 'out2/report.json')['notes']
    assert 'wide.png: values beyond 8 bits are lost' in note and note in report.summary()


def test_a_video_is_segmented(segmenter, clip, tmp_path):
    report = predict(segmenter, clip, tmp_path / 'out', every=2, batch_size=3)
    assert (report.images, report.predicted, report.failed) == (4, 4, [])
    masks = sorted((tmp_path / 'out/masks').iterdir())
    assert [mask.stem for mask in masks] == ['000000', '000002', '000004', '000006']
    video, drawn = cv2.VideoCapture(str(clip)), tmp_path / 'out/pictures/clip.mp4'
    predictor = Predictor(segmenter.cfg, segmenter.checkpoint)
    video.read(), video.read()
    frame = video.read()[1]
    labels = predictor.label_map(predictor([frame])[0])
    assert (labels == np.asarray(Image.open(masks[1]))).mean() > 0.999
    shown = cv2.VideoCapture(str(drawn))
    assert shown.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    expected = predictor.draw(frame, predictor([frame])[0])[..., ::-1]
    shown.read()
    assert np.abs(shown.read()[1].astype(int) - expected).mean() < 12
    assert shown.read()[0] and shown.read()[0] and not shown.read()[0]


def test_a_frame_that_fails_keeps_its_time(segmenter, clip, tmp_path):
    video = cv2.VideoCapture(str(clip))
    values = [int(video.read()[1][0, 0, 0]) for _ in range(7)]
    failing = [index for index, value in enumerate(values) if value == values[3]]
    report = predict(segmenter, clip, tmp_path / 'out', raising(segmenter, values[3], 'value'))
    assert [failure['file'] for failure in report.failed] == [f'clip.avi#{i}' for i in failing]
    drawn = cv2.VideoCapture(str(tmp_path / 'out/pictures/clip.mp4'))
    assert sum(drawn.read()[0] for _ in range(8)) == 7


def test_frames_are_the_images_of_the_json(detector, clip, tmp_path):
    predict(detector, clip, tmp_path / 'out', every=3, pictures=False)
    images = COCO(str(tmp_path / 'out/images.json'))
    assert images.getImgIds() == [0, 3, 6]
    assert images.loadImgs(3)[0]['file_name'] == 'clip.avi#3'
    assert images.loadRes(str(tmp_path / 'out/predictions.json')).getImgIds() == [0, 3, 6]
    assert not (tmp_path / 'out/pictures').exists()


def test_what_does_not_fit_together(detector, segmenter, clip, val_images, annotations, tmp_path):
    with pytest.raises(ValueError, match='each 2-th frame can be taken of a video, but .* is none'):
        predict(segmenter, val_images, tmp_path, every=2)
    with pytest.raises(ValueError, match='but the model is a segmenter'):
        predict(segmenter, val_images, tmp_path, ann_file=annotations)
    with pytest.raises(ValueError, match='but .*clip.avi is a video'):
        predict(detector, clip, tmp_path, ann_file=annotations)
    with pytest.raises(ValueError, match='is the input itself; write to another folder'):
        predict(segmenter, val_images, val_images.parent / 'train/../val')
    with pytest.raises(FileNotFoundError, match='nowhere.json'):
        predict(detector, val_images, tmp_path, ann_file=tmp_path / 'nowhere.json')
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='file is a file; give a folder'):
        predict(segmenter, val_images, tmp_path / 'file')
    cfg = segmenter.cfg
    joined = dict(type='ConcatDataset', datasets=[cfg.test_dataloader.dataset] * 2)
    cfg.test_dataloader.dataset = joined
    with pytest.raises(ValueError, match='holds a ConcatDataset without a pipeline'):
        predict(segmenter, val_images, tmp_path / 'out', cfg)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('where', ['pictures', 'masks', 'pictures/deep'])
def test_results_never_replace_their_input(segmenter, tmp_path, where):
    for number in (10, 20):
        flat(tmp_path / where / f'{number}.png', number)
    before = {path: path.read_bytes() for path in (tmp_path / where).iterdir()}
    for source in (tmp_path / where, tmp_path / where / '10.png'):
        with pytest.raises(ValueError, match='where results go and would replace it'):
            predict(segmenter, source, tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / where).iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == [where.split('/')[0]]


def test_images_that_the_annotations_do_not_know(detector, val_images, annotations, tmp_path):
    shutil.copytree(val_images, tmp_path / 'in')
    first, *_ = sorted((tmp_path / 'in').iterdir())
    first.rename(first.with_name('new.jpg'))
    options = dict(ann_file=annotations, pictures=False)
    report = predict(detector, tmp_path / 'in', tmp_path / 'out', **options)
    assert (report.images, report.predicted, report.not_annotated) == (3, 3, 1)
    assert report.without_file == [first.name]
    assert f'no file:\n  {first.name}' in report.summary()


@pytest.fixture
def tool(run_tool):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            run_tool('predict.py', *arguments)
        return end.value.code

    return run


def test_the_tool(tool, segmenter, val_images, tmp_path, capsys):
    model = (segmenter.config, segmenter.checkpoint)
    image = sorted(val_images.iterdir())[0]
    options = ('--device', 'cpu', '--cfg-options', 'visualizer.alpha=0.3')
    assert tool(image, *model, '--out', tmp_path / 'a', *options) == 0
    assert 'predicted 1 of 1 images' in capsys.readouterr().out
    assert (tmp_path / f'a/masks/{image.stem}.png').exists()
    (tmp_path / 'broken.png').write_bytes(b'')
    assert tool(tmp_path / 'broken.png', *model, '--out', tmp_path / 'b') == 1
    assert 'broken.png: is empty' in capsys.readouterr().out
    assert tool(image, *model, '--out', tmp_path / 'c', '--batch-size', 0) == 2
    assert "argument --batch-size: '0' is no whole number from 1 on" in capsys.readouterr().err
    assert tool(tmp_path / 'absent.png', *model, '--out', tmp_path / 'c') == 2
    assert 'absent.png does not exist; give an image' in capsys.readouterr().err
    cfg = raising(segmenter, int(cv2.imread(str(image))[0, 0, 0]), 'stop')
    cfg.dump(tmp_path / 'stop.py')
    assert tool(image, tmp_path / 'stop.py', 'none', '--out', tmp_path / 'd') == 130
    assert Config.fromfile(tmp_path / 'stop.py').default_scope == 'mmseg'

"""Annotations of another image, and what is not finite, are noticed."""

import io
import pickle

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmpvg.datasets.checked_loading import BrokenSampleError, CheckLoaded, check_whole


class Masks(list):
    height, width = 61, 83


class OtherMasks(Masks):
    height, width = 83, 61


class Boxes:
    tensor = torch.tensor([[0, 1, 2, float('inf')]])


def loaded(**changes):
    return dict(
        img_path='a.jpg',
        seg_map_path='a.png',
        img=np.zeros((61, 83, 3), np.uint8),
        gt_seg_map=np.zeros((61, 83), np.uint8),
        gt_masks=Masks([1]),
        gt_bboxes=np.array([[0.0, 1, 2, 3]]),
        **changes,
    )


def test_what_fits_passes():
    results = loaded()
    assert CheckLoaded()(results) is results
    assert CheckLoaded()(dict(img=results['img'])) is not None
    assert CheckLoaded()({**results, 'gt_masks': OtherMasks()}) is not None
    assert CheckLoaded()({**results, 'img': np.ones((61, 83, 3), np.float32)}) is not None


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('gt_seg_map', np.zeros((83, 61), np.uint8), 'a.png is 61x83 pixels.*a.jpg is 83x61'),
        ('gt_masks', OtherMasks([1]), 'masks of a.jpg are 61x83 pixels, but it is 83x61'),
        ('gt_bboxes', np.array([[0, 1, np.nan, 3]]), 'a.jpg has a box that is not finite'),
        ('gt_bboxes', Boxes, 'a.jpg has a box that is not finite'),
        ('img', np.full((61, 83, 3), np.nan), 'a.jpg has pixels that are not finite'),
        ('img', np.full((61, 83, 3), -np.inf, np.float32), 'a.jpg has pixels that are not'),
    ],
)
def test_what_does_not_fit(key, value, message):
    with pytest.raises(BrokenSampleError, match=message):
        CheckLoaded()({**loaded(), key: value})


def test_a_size_that_the_annotations_tell(tmp_path):
    path = tmp_path / 'a.jpg'
    Image.new('RGB', (83, 61)).save(path)
    results = dict(loaded(), img_path=str(path))
    assert CheckLoaded()(dict(results, height=61, width=83)) is not None
    with pytest.raises(BrokenSampleError, match='is 83x61 pixels, its annotations say 61x83') as e:
        CheckLoaded()(dict(results, height=83, width=61))
    assert e.value.problem == 'size unlike its annotations'


@pytest.mark.parametrize('key', ['gt_seg_map', 'width'])
def test_an_image_that_exif_turns_is_named_with_the_fix(tmp_path, key):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / 'a.jpg'
    Image.new('RGB', (61, 83)).save(path, exif=exif)
    results = LoadImageFromFile()(dict(img_path=str(path)))
    assert results['img_shape'] == (61, 83), 'the loader has turned it'
    if key == 'width':
        results.update(height=83, width=61)
    else:
        results.update(gt_seg_map=np.zeros((83, 61), np.uint8), seg_map_path='a.png')
    with pytest.raises(BrokenSampleError, match='EXIF orientation 6.*color_ignore_orientation'):
        CheckLoaded()(results)


def test_label_maps_that_are_loaded_wrong(tmp_path):
    path = tmp_path / 'a.png'
    labels = np.zeros((61, 83), np.uint16)
    results = dict(loaded(), seg_map_path=str(path))
    Image.fromarray(labels).save(path)
    assert CheckLoaded()(results) is results
    labels[3, 5] = 293
    Image.fromarray(labels).save(path)
    with pytest.raises(BrokenSampleError, match='a.png: uint16 labels.*293 becomes 37'):
        CheckLoaded()(results)
    results['gt_seg_map'] = np.zeros((61, 83, 3), np.uint8)
    with pytest.raises(BrokenSampleError, match='repeated in 3 channels'):
        CheckLoaded()(results)


def test_the_problem_passes_between_processes():
    error = pickle.loads(pickle.dumps(BrokenSampleError('why', 'what')))
    assert (str(error), error.problem) == ('why', 'what')


@pytest.mark.parametrize('share', [0.0, 0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_the_decoder_refuses_truncated_files(kind, share, tmp_path):
    """So that there is no need of a loader of our own."""
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    (tmp_path / 'a').write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    with pytest.raises(Exception, match=r'failed to load image|empty|buf'):
        LoadImageFromFile()(dict(img_path=str(tmp_path / 'a')))


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tiff', '.bmp'])
def test_a_file_is_looked_through_to_its_end(tmp_path, suffix):
    """Where a decoder gives gray for what is missing, as some do."""
    path = tmp_path / f'a{suffix}'
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    check_whole(path)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(BrokenSampleError, match=f'a{suffix} is truncated or damaged'):
            check_whole(path)
    path.write_bytes(b'')
    with pytest.raises(BrokenSampleError, match='is empty'):
        check_whole(path)


def test_what_pil_does_not_know_is_left_to_the_decoder(tmp_path):
    (tmp_path / 'a.exr').write_bytes(b'of some other kind')
    check_whole(tmp_path / 'a.exr')
    with pytest.raises(FileNotFoundError):
        check_whole(tmp_path / 'b.exr')

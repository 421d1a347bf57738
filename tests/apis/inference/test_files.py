"""Files of predictions, read again by others."""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mmpvg.apis.inference.coco_ids import CocoIds
from mmpvg.apis.inference.files import DetectionFiles, MaskFiles
from mmpvg.apis.inference.inputs import Item

ITEMS = [Item(5, 'x/b.png', 'x/b', None), Item(2, 'a.png', 'a', None)]
IMAGE = np.zeros((6, 8, 3), np.uint8)


def test_pycocotools_accepts_detections(tmp_path):
    files = DetectionFiles(tmp_path, CocoIds(('ball', 'box')), score_thr=0.25)
    mask = np.zeros((6, 8), np.uint8, order='F')
    mask[1:3, 2:7] = 1
    code = rle.encode(mask)
    code['counts'] = code['counts'].decode()
    boxes = [[2.0, 1.0, 7.0, 3.0], [0.0, 0.0, 4.5, 2.0]]
    found = dict(labels=[1, 0], scores=[0.25, 0.2], bboxes=boxes, masks=[code, code])
    files.add(ITEMS[0], IMAGE, found)
    files.add(ITEMS[1], IMAGE, dict(labels=[0], scores=[0.5], bboxes=boxes[1:]))
    files.close()
    assert files.count == 2
    written = json.loads((tmp_path / 'images.json').read_text())['images']
    assert [image['id'] for image in written] == [2, 5], 'in order of their ids'
    images = COCO(str(tmp_path / 'images.json'))
    assert [image['file_name'] for image in images.loadImgs([5, 2])] == ['x/b.png', 'a.png']
    assert [c['name'] for c in images.loadCats(images.getCatIds())] == ['ball', 'box']
    results = images.loadRes(str(tmp_path / 'predictions.json'))
    (one,) = results.imgToAnns[5]
    assert (one['category_id'], one['bbox'], one['score']) == (2, [2.0, 1.0, 5.0, 2.0], 0.25)
    assert np.array_equal(results.annToMask(one), mask)
    (other,) = results.imgToAnns[2]
    assert (other['category_id'], other['bbox']) == (1, [0.0, 0.0, 4.5, 2.0])


def test_ids_may_be_numbers_and_text(tmp_path):
    files = DetectionFiles(tmp_path, CocoIds(('ball',)))
    found = dict(labels=[0], scores=[0.5], bboxes=[[0.0, 0.0, 4.0, 2.0]])
    for id_ in ('b', 7, 'a', 3):
        files.add(Item(id_, f'{id_}.png', f'{id_}', None), IMAGE, found)
    files.close()
    images = COCO(str(tmp_path / 'images.json'))
    results = images.loadRes(str(tmp_path / 'predictions.json'))
    assert list(results.imgToAnns) == [3, 7, 'a', 'b']


def test_memory_does_not_grow_with_the_detections(tmp_path):
    files = DetectionFiles(tmp_path, CocoIds(('ball',)))
    box = [0.0, 0.0, 4.5, 2.0]
    tracemalloc.start()
    try:
        for number in range(200, 0, -1):
            # Each with text of its own.
            masks = [dict(size=[6, 8], counts=f'{number:0500}{index}') for index in range(40)]
            found = dict(labels=[0] * 40, scores=[0.5] * 40, bboxes=[box] * 40, masks=masks)
            files.add(Item(number, f'{number}.png', str(number), None), IMAGE, found)
        files.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000 < 4_000_000 < (tmp_path / 'predictions.json').stat().st_size
    written = json.loads((tmp_path / 'predictions.json').read_text())
    assert [result['image_id'] for result in written[::40]] == list(range(1, 201))


def test_no_detections_are_an_empty_list(tmp_path):
    files = DetectionFiles(tmp_path, CocoIds(('ball',)))
    files.add(ITEMS[0], IMAGE, dict(labels=[], scores=[], bboxes=[], masks=[]))
    files.close()
    assert json.loads((tmp_path / 'predictions.json').read_text()) == []
    assert len(json.loads((tmp_path / 'images.json').read_text())['images']) == 1


@pytest.mark.parametrize('number, mode', [(2, 'P'), (256, 'P'), (257, 'I;16'), (1000, 'I;16')])
def test_label_maps_hold_class_indices(tmp_path, number, mode):
    colors = [(i % 256, 3, 255 - i % 256) for i in range(number)]
    files = MaskFiles(tmp_path, [f'c{i}' for i in range(number)], colors)
    labels = np.arange(48).reshape(6, 8) % number
    labels[0, 0] = number - 1
    files.add(ITEMS[0], IMAGE, labels)
    files.close()
    with Image.open(tmp_path / 'masks/x/b.png') as mask:
        assert mask.mode == mode and mask.size == (8, 6)
        assert np.array_equal(np.asarray(mask), labels)
        if mode == 'P':
            assert mask.convert('RGB').getpixel((0, 0)) == colors[-1]
    classes = json.loads((tmp_path / 'classes.json').read_text())
    assert classes[-1] == dict(id=number - 1, name=f'c{number - 1}', color=list(colors[-1]))
    with pytest.raises(ValueError, match=r'label map is \(8, 6\), the image \(6, 8\)'):
        files.add(ITEMS[1], IMAGE, labels.T)

"""Ids of an annotation file go to the images and classes of the same name."""

import json

import numpy as np
import pytest

from mmpvg.apis.inference.coco_ids import AnnotatedIds, CocoIds
from mmpvg.apis.inference.inputs import Item
from mmpvg.datasets.checked_loading import BrokenSampleError

IMAGES = {31: 'deep/a.jpg', 7: 'b.jpg', 9: 'gone.jpg'}
CATEGORIES = [dict(id=90, name='unicorn'), dict(id=4, name='box'), dict(id=2, name='ball')]


def write(path, images=IMAGES, categories=CATEGORIES):
    entries = [dict(id=k, file_name=v, height=4, width=6) for k, v in images.items()]
    path.write_text(json.dumps(dict(images=entries, annotations=[], categories=categories)))
    return path


def items(*file_names):
    return [Item(i + 1, name, name, None) for i, name in enumerate(file_names)]


def test_without_annotations():
    ids = CocoIds(('ball', 'box'))
    assert ids.categories == [dict(id=1, name='ball'), dict(id=2, name='box')]
    assert ids.category_ids == [1, 2]
    assert ids.image(items('x/a.png')[0], np.empty((4, 6, 3))) == dict(
        id=1, file_name='x/a.png', height=4, width=6
    )


def test_names_are_matched(tmp_path):
    ids = AnnotatedIds(('ball', 'box'), write(tmp_path / 'ann.json'))
    assert ids.category_ids == [2, 4]
    assert ids.categories == CATEGORIES
    # One by its path, one by its name, one that the file does not know.
    chosen = ids.select(items('deep/a.jpg', 'other/a.jpg', 'some/b.jpg'))
    assert [(item.id, item.file_name) for item in chosen] == [(31, 'deep/a.jpg'), (7, 'some/b.jpg')]
    assert ids.without_file == ['gone.jpg']
    assert ids.image(chosen[0], np.empty((4, 6, 3)))['file_name'] == 'deep/a.jpg'
    with pytest.raises(BrokenSampleError, match='is 4x6 pixels, but .*ann.json says 6x4'):
        ids.image(chosen[0], np.empty((6, 4, 3)))


def test_what_does_not_fit(tmp_path):
    path = write(tmp_path / 'ann.json')
    with pytest.raises(ValueError, match="no category 'cone', 'star', which .* has unicorn, box"):
        AnnotatedIds(('ball', 'cone', 'star'), path)
    with pytest.raises(ValueError, match='knows none of the 2 images; its first is called .deep/a'):
        AnnotatedIds(('ball',), path).select(items('x.jpg', 'y.jpg'))
    with pytest.raises(ValueError, match=r'not clear which file that is \(x/b.jpg, y/b.jpg\)'):
        AnnotatedIds(('ball',), path).select(items('x/b.jpg', 'y/b.jpg'))
    twins = write(tmp_path / 'twins.json', {1: 'x/b.jpg', 2: 'y/b.jpg'})
    with pytest.raises(ValueError, match='has the image y/b.jpg, but it is not clear'):
        AnnotatedIds(('ball',), twins).select(items('b.jpg'))


def test_an_id_of_two_images(tmp_path):
    path = write(tmp_path / 'ann.json')
    content = json.loads(path.read_text())
    content['images'][1]['id'] = 31
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='ann.json is no COCO .*2 images have the id 31'):
        AnnotatedIds(('ball', 'box'), path)


@pytest.mark.parametrize('text', ['', '[]', '{"images": []}', '{"images": [1], "categories": []}'])
def test_what_is_no_annotation_file(tmp_path, text):
    (tmp_path / 'ann.json').write_text(text)
    with pytest.raises(ValueError, match='ann.json is no COCO annotation file'):
        AnnotatedIds(('ball',), tmp_path / 'ann.json')

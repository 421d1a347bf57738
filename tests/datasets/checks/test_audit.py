"""Every way in which annotations are wrong is found under its name, and nothing in whole data."""

import json
import shutil
from itertools import groupby

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmpvg.datasets.checks.audit import audit
from mmpvg.datasets.checks.run_lengths import decode_counts, extents, is_encoded

CLASSES = ('ball', 'box', 'cone', 'star', 'ring')


@pytest.fixture
def cfg(repo, sample_data):
    """The detection config on the sample data of the tests."""
    cfg = Config.fromfile(repo / 'configs/sample/mask_rcnn_vit_mpvg_sample.py')
    init_default_scope(cfg.default_scope)
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{sample_data}/'
    cfg.val_evaluator.ann_file = f'{sample_data}/annotations/instances_val.json'
    return cfg


def content(sample_data, split):
    return json.loads((sample_data / f'annotations/instances_{split}.json').read_text())


def use(cfg, split, path):
    cfg[f'{split}_dataloader'].dataset.ann_file = str(path)
    if split == 'val':
        cfg.val_evaluator.ann_file = str(path)


def found(cfg, *splits):
    return {
        (finding.problem, finding.effect)
        for result in audit(cfg, splits or ('train', 'val'))
        for finding in result.findings
    }


def decoded(annotation):
    return coco_mask.decode(annotation['segmentation'])


def runs_of(pixels):
    """Run lengths of a sequence, background first."""
    runs = [(value, len(list(group))) for value, group in groupby(pixels.tolist())]
    return [0] * runs[0][0] + [length for _, length in runs]


def with_runs(order, cut=0):
    def change(coco):
        for annotation in coco['annotations']:
            mask = decoded(annotation)
            counts = runs_of(mask.ravel(order))
            annotation['segmentation'] = {
                'size': list(mask.shape),
                'counts': counts[: len(counts) - cut],
            }

    return change


def every(field, value):
    """Set a field of every annotation, to a value or to what a function makes of one."""

    def change(coco):
        for annotation in coco['annotations']:
            annotation[field] = value(annotation) if callable(value) else value

    return change


def one(field, value):
    def change(coco):
        annotation = coco['annotations'][2]
        annotation[field] = value(annotation) if callable(value) else value

    return change


def without(records, field, only_one=False):
    def change(coco):
        for record in coco[records][1:2] if only_one else coco[records]:
            del record[field]

    return change


def corners(annotation):
    x, y, width, height = annotation['bbox']
    return [x, y, x + width, y + height]


def centers(annotation):
    x, y, width, height = annotation['bbox']
    return [x + width / 2, y + height / 2, width, height]


def shares(coco):
    sizes = {image['id']: [image['width'], image['height']] * 2 for image in coco['images']}
    for annotation in coco['annotations']:
        size = sizes[annotation['image_id']]
        annotation['bbox'] = [value / side for value, side in zip(annotation['bbox'], size)]


def rectangle(annotation):
    x, y, width, height = annotation['bbox']
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def swapped_outlines(annotation):
    outline = rectangle(annotation)[0]
    return [[value for pair in zip(outline[1::2], outline[::2]) for value in pair]]


def merged_by_hand(coco):
    half = len(coco['images']) // 2
    for image in coco['images'][half:]:
        image['id'] -= half
    for annotation in coco['annotations']:
        annotation['image_id'] -= half * (annotation['image_id'] > half)


def twice_the_file(coco):
    coco['images'] += [
        dict(image, id=image['id'] + 1000) for image in coco['images'] if image['id'] < 4
    ]


def root_category(coco):
    coco['categories'].insert(0, dict(id=0, name='ball', supercategory='none'))


def move_boxes(coco):
    for annotation in coco['annotations']:
        annotation['bbox'] = [0, 0, 9, 9]


def drop_ball(coco):
    coco['categories'] = [c for c in coco['categories'] if c['name'] != 'ball']
    coco['annotations'] = [a for a in coco['annotations'] if a['category_id'] != 1]


def rename(coco):
    for category in coco['categories']:
        category['name'] = category['name'].title()


# Of the training data: what is changed, the finding, and what comes of it.
WRONG = {
    'order': (lambda c: c['categories'].reverse(), 'categories in another order', 'senseless'),
    'no ball': (drop_ball, 'categories lack a class', 'senseless'),
    'other names': (rename, 'no category of the classes', 'senseless'),
    'root': (root_category, 'category names repeat', 'senseless'),
    'image ids': (merged_by_hand, 'ids of images repeat', 'senseless'),
    'file names': (twice_the_file, 'file names repeat', 'unnoticed'),
    'annotation ids': (every('id', 7), 'annotation ids repeat', 'stops'),
    'category ids': (
        lambda c: [x.update(id=1) for x in c['categories']],
        'ids of categories repeat',
        'senseless',
    ),
    'image id text': (
        every('image_id', lambda a: str(a['image_id'])),
        'ids of two kinds',
        'senseless',
    ),
    'category id text': (
        every('category_id', lambda a: str(a['category_id'])),
        'ids of two kinds',
        'senseless',
    ),
    'ids of both kinds': (
        lambda c: c['images'][0].update(id='first'),
        'ids of two kinds',
        'senseless',
    ),
    'image gone': (one('image_id', 999), 'annotation of no image', 'left out'),
    'category gone': (one('category_id', 99), 'category outside the classes', 'left out'),
    'category null': (one('category_id', None), 'category outside the classes', 'left out'),
    'crowd': (every('iscrowd', 1), 'iscrowd everywhere', 'senseless'),
    'crowd text': (every('iscrowd', '0'), 'iscrowd is text', 'senseless'),
    'no area': (without('annotations', 'area'), 'annotation without area', 'stops'),
    'no box': (without('annotations', 'bbox', True), 'annotation without bbox', 'stops'),
    'no id': (without('annotations', 'id'), 'annotation without id', 'stops'),
    'no height': (without('images', 'height', True), 'image without height', 'stops'),
    'no name': (without('images', 'file_name'), 'image without file_name', 'stops'),
    'size text': (
        lambda c: c['images'][0].update(width='90'),
        'size of an image is not a number',
        'stops',
    ),
    'empty box': (one('bbox', []), 'no box of four numbers', 'stops'),
    'box of text': (one('bbox', ['1', '2', '3', '4']), 'no box of four numbers', 'stops'),
    'area null': (one('area', None), 'area is not a number', 'stops'),
    'area 0': (every('area', 0), 'no object is left', 'senseless'),
    'nan': (one('bbox', [float('nan'), 1, 9, 9]), 'not finite', 'left out'),
    'infinite': (one('bbox', [1, 1, float('inf'), 9]), 'not finite', 'replaced'),
    'box outside': (one('bbox', [1000, 1, 9, 9]), 'box outside the image', 'left out'),
    'box beyond': (one('bbox', [1, 1, 999, 9]), 'box beyond the image', 'unnoticed'),
    'no width': (one('bbox', [1, 1, 0, 9]), 'box without area', 'left out'),
    'corners': (every('bbox', corners), 'boxes are corners', 'senseless'),
    'centers': (every('bbox', centers), 'boxes are centers and sizes', 'senseless'),
    'shares': (shares, 'boxes are shares of the image', 'senseless'),
    'no mask': (
        lambda c: c['annotations'][2].pop('segmentation'),
        'annotation without mask',
        'replaced',
    ),
    'two points': (every('segmentation', [[1, 2, 3, 4]]), 'outline is no polygon', 'senseless'),
    'odd outline': (
        one('segmentation', [[1, 2, 3, 4, 5, 6, 7]]),
        'outline is no polygon',
        'left out',
    ),
    'flat outline': (
        one('segmentation', [1, 2, 3, 4, 5, 6]),
        'outlines are not lists',
        'replaced',
    ),
    'outline of text': (
        one('segmentation', [['1', '2', '3', '4', '5', '6']]),
        'outline is not of numbers',
        'replaced',
    ),
    'counts null': (
        every('segmentation', lambda a: dict(a['segmentation'], counts=None)),
        'run lengths without counts',
        'senseless',
    ),
    'row by row': (with_runs('C'), 'run lengths go row by row', 'senseless'),
    'last run': (with_runs('F', cut=1), 'run lengths of another sum', 'senseless'),
    'size exchanged': (
        every('segmentation', lambda a: dict(a['segmentation'], size=[63, 64])),
        'mask of another size',
        'stops',
    ),
    'torn text': (
        lambda c: c['annotations'][2]['segmentation'].update(counts='52P'),
        'run lengths are damaged',
        'unnoticed',
    ),
    'size of another': (
        one('segmentation', dict(size=[1, 1], counts='1')),
        'mask of another size',
        'replaced',
    ),
    'boxes moved': (move_boxes, 'masks beside their boxes', 'senseless'),
    'one box moved': (one('bbox', [0, 0, 3, 3]), 'mask beside its box', 'unnoticed'),
    'outlines y x': (
        every('segmentation', swapped_outlines),
        'masks beside their boxes',
        'senseless',
    ),
    'no annotations': (lambda c: c['annotations'].clear(), 'no object is left', 'senseless'),
    'no images': (lambda c: c['images'].clear(), 'no images', 'stops'),
    'not a list': (lambda c: c.update(images={}), 'file is not COCO', 'stops'),
    'key gone': (lambda c: c.pop('categories'), 'file is not COCO', 'stops'),
}


@pytest.mark.parametrize('depth', ['annotations', 'headers', 'pixels'])
def test_whole_data_has_no_findings(cfg, depth):
    results = list(audit(cfg, ['train', 'val'], depth))
    assert [result.findings for result in results] == [[], []]
    assert [result.images for result in results] == [16, 4]


@pytest.mark.parametrize('kind', WRONG)
def test_each_kind_is_found(cfg, sample_data, tmp_path, kind):
    change, problem, effect = WRONG[kind]
    coco = content(sample_data, 'train')
    change(coco)
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    assert (problem, effect) in found(cfg)


@pytest.mark.parametrize('form', ['as is', 'polygons', 'runs', 'bigger boxes'])
def test_other_forms_of_the_same_are_whole(cfg, sample_data, tmp_path, form):
    coco = content(sample_data, 'train')
    if form == 'polygons':
        every('segmentation', rectangle)(coco)
    elif form == 'runs':
        with_runs('F')(coco)
    elif form == 'bigger boxes':
        every('bbox', lambda a: [*a['bbox'][:2], a['bbox'][2] + 2, a['bbox'][3] + 1])(coco)
    # Some of everything that real data have.
    coco['annotations'][0]['iscrowd'] = 1
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    assert found(cfg) == set()


@pytest.mark.parametrize(
    'change, problem, effect',
    [
        (without('annotations', 'iscrowd'), 'annotation without iscrowd', 'stops evaluation'),
        (
            without('annotations', 'segmentation'),
            'annotation without segmentation',
            'stops evaluation',
        ),
        (one('iscrowd', None), 'annotation without iscrowd', 'stops evaluation'),
        (lambda c: c.update(annotations=1), 'nothing to evaluate on', 'senseless'),
        (lambda c: c.pop('annotations'), 'nothing to evaluate on', 'senseless'),
        (lambda c: c['annotations'].clear(), 'nothing to evaluate on', 'senseless'),
        (
            lambda c: [x.update(id=i) for i, x in enumerate(c['annotations'])],
            'annotation id 0',
            'unnoticed',
        ),
        (lambda c: c['categories'].reverse(), 'categories in another order', 'senseless'),
    ],
)
@pytest.mark.parametrize('file', ['shared', 'of the metric'])
def test_what_evaluation_reads(cfg, sample_data, tmp_path, change, problem, effect, file):
    coco = content(sample_data, 'val')
    change(coco)
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(coco))
    if file == 'shared':
        use(cfg, 'val', path)
    else:
        cfg.val_evaluator.ann_file = str(path)
    assert (problem, effect) in found(cfg, 'val')


# A mask that evaluation may end at: whether it does, the COCO API says.
@pytest.mark.parametrize(
    'mask',
    [
        [[]],
        [[1, 2]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4], [1, 2, 9, 2, 9, 9]],
        [[1, 2, 9, 2, 9, 9], [1, 2, 3, 4]],
        [[1, 2, 9, 2, 9]],
        dict(size=[64, 64], counts=None),
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize('crowd', [0, 1])
@pytest.mark.parametrize('file', ['shared', 'of the metric'])
def test_masks_that_end_the_evaluation(cfg, sample_data, tmp_path, mask, crowd, file):
    coco = content(sample_data, 'val')
    coco['annotations'][2].update(segmentation=mask, iscrowd=crowd)
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(coco))
    if file == 'shared':
        use(cfg, 'val', path)
    else:
        cfg.val_evaluator.ann_file = str(path)
    api = COCO(str(path))
    try:
        coco_mask.area(api.annToRLE(coco['annotations'][2]))
        ends = False
    except Exception:
        ends = True
    assert ('stops evaluation' in {effect for _, effect in found(cfg, 'val')}) == ends


@pytest.mark.parametrize('value', [7, '7', 'seven', None])
def test_annotation_ids_that_evaluation_cannot_store(cfg, sample_data, tmp_path, value):
    coco = content(sample_data, 'val')
    coco['annotations'][2]['id'] = value
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'val', path)
    problem = ('annotation id is not a number', 'stops evaluation')
    assert (problem in found(cfg, 'val')) == (value in ('seven', None))


@pytest.mark.parametrize(
    'change, problem, effect',
    [
        (
            lambda c: c['images'][0].update(file_name='gone.jpg'),
            'image missing',
            'stops evaluation',
        ),
        (one('bbox', [1, 1, 0, 9]), 'box without area', 'unnoticed'),
    ],
)
def test_evaluation_neither_replaces_nor_leaves_out(
    cfg, sample_data, tmp_path, change, problem, effect
):
    coco = content(sample_data, 'val')
    change(coco)
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'val', path)
    assert (problem, effect) in found(cfg, 'val')


def test_a_data_set_whose_images_are_no_list(cfg, tmp_path):
    (tmp_path / 'val.json').write_text('{"images": 1, "annotations": 1, "categories": 1}')
    cfg.val_dataloader.dataset.ann_file = str(tmp_path / 'val.json')
    assert ('file is not COCO', 'stops') in found(cfg, 'val')


def test_a_metric_with_the_file_of_another_split(cfg, sample_data):
    cfg.val_evaluator.ann_file = f'{sample_data}/annotations/instances_val.json'
    cfg.val_dataloader.dataset.ann_file = 'annotations/instances_train.json'
    cfg.val_dataloader.dataset.data_prefix = dict(img='images/train/')
    assert ('metric reads another file', 'stops evaluation') in found(cfg, 'val')


@pytest.mark.parametrize(
    'filter_cfg, sizes, left',
    [
        (dict(filter_empty_gt=True, min_size=32), 'small', False),
        (dict(filter_empty_gt=True), 'no objects', False),
        (dict(filter_empty_gt=True, min_size=32), 'as is', True),
        (dict(min_size=32), 'as is', True),
    ],
)
def test_what_the_filter_leaves_is_what_mmdet_leaves(
    cfg, sample_data, tmp_path, filter_cfg, sizes, left
):
    from mmdet.datasets import CocoDataset

    coco = content(sample_data, 'train')
    if sizes == 'small':
        for image in coco['images']:
            image['width'] = image['height'] = 20
    elif sizes == 'no objects':
        coco['annotations'] = []
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    cfg.train_dataloader.dataset.filter_cfg = filter_cfg
    settings = {k: v for k, v in cfg.train_dataloader.dataset.items() if k != 'type'}
    dataset = CocoDataset(**{**settings, 'pipeline': []}, serialize_data=False)
    assert bool(len(dataset)) == left
    assert (('nothing is left of the images', 'stops') in found(cfg)) != left


def test_counts_are_those_of_the_data_set(cfg, sample_data, tmp_path):
    from mmengine.registry import DATASETS

    coco = content(sample_data, 'train')
    coco['annotations'][0]['iscrowd'] = 1
    coco['annotations'][1]['bbox'][2] = 0.5
    coco['annotations'][2]['ignore'] = 1
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    expected = dict.fromkeys(CLASSES, 0)
    for index in range(len(dataset)):
        for instance in dataset.get_data_info(index)['instances']:
            expected[CLASSES[instance['bbox_label']]] += not instance['ignore_flag']
    (result,) = audit(cfg, ['train'])
    assert result.counts == expected


def test_a_detector_of_boxes_needs_no_masks(cfg, sample_data, tmp_path):
    coco = content(sample_data, 'train')
    without('annotations', 'segmentation')(coco)
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    assert found(cfg, 'train') == {('annotation without mask', 'stops')}
    cfg.train_dataloader.dataset.pipeline[1].with_mask = False
    assert found(cfg, 'train') == set()


def larger_boxes(annotation):
    x, y, width, height = annotation['bbox']
    return [x, y, 2 * width, 2 * height]


def small_corners(coco):
    """Boxes as corners that no image is too small for."""
    every('segmentation', rectangle)(coco)
    every('bbox', corners)(coco)
    for image in coco['images']:
        image.update(width=640, height=640)


@pytest.mark.parametrize(
    'change, expected',
    [
        (every('segmentation', [[0, 0, 0, 0, 0, 0]]), set()),
        (every('bbox', larger_boxes), {('masks beside their boxes', 'unnoticed')}),
        (with_runs('C'), {('run lengths go row by row', 'unnoticed')}),
        (small_corners, {('boxes are corners', 'senseless')}),
    ],
)
def test_masks_that_nobody_trains_on(cfg, sample_data, tmp_path, change, expected):
    coco = content(sample_data, 'train')
    change(coco)
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    cfg.train_dataloader.dataset.pipeline[1].with_mask = False
    assert {item for item in found(cfg, 'train') if item[0] != 'box beyond the image'} == expected


def test_amodal_boxes_beside_masks_are_trained_on(cfg, sample_data, tmp_path):
    """Boxes that also hold the hidden parts of objects are legitimate, other masks are not."""
    coco = content(sample_data, 'train')
    every('bbox', larger_boxes)(coco)
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    problems = found(cfg, 'train')
    assert ('masks beside their boxes', 'unnoticed') in problems
    assert {effect for _, effect in problems} == {'unnoticed'}
    move_boxes(coco)
    path.write_text(json.dumps(coco))
    assert ('masks beside their boxes', 'senseless') in found(cfg, 'train')


def test_ids_that_are_lists_do_not_end_the_audit(cfg, sample_data, tmp_path):
    coco = content(sample_data, 'val')
    coco['images'][0]['id'] = [1]
    path = tmp_path / 'val.json'
    path.write_text(json.dumps(coco))
    for file in ('metric', 'data set'):
        cfg.val_evaluator.ann_file = f'{sample_data}/annotations/instances_val.json'
        if file == 'metric':
            cfg.val_evaluator.ann_file = str(path)
        else:
            cfg.val_dataloader.dataset.ann_file = str(path)
        assert ('ids of two kinds', 'senseless') in found(cfg, 'val')


NAN = float('nan')


def background(annotation):
    size = annotation['segmentation']['size']
    return dict(size=size, counts=[size[0] * size[1]])


@pytest.mark.parametrize(
    'mask',
    [
        background,
        [[5, 5, 5, 5, 5, 5]],
        [[1, 1, 5, 5, 9.1, 9.1, 3, 3], [2, 7, 2, 9, 2, 8]],
        [[NAN, 1, 5, 5, 9, 1]],
        # A crossed outline, whose signed area is 0, and a flat one beside another: sound.
        [[10, 10, 20, 20, 20, 10, 10, 20]],
        [[2, 7, 2, 9, 2, 8], [10, 10, 20, 10, 20, 20, 10, 20]],
    ],
    ids=lambda mask: getattr(mask, '__name__', str(mask)),
)
@pytest.mark.parametrize('which', [one, every])
def test_masks_without_content(cfg, sample_data, tmp_path, mask, which):
    coco = content(sample_data, 'train')
    which('segmentation', mask)(coco)
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    effects = {effect for problem, effect in found(cfg, 'train') if problem == 'mask without area'}
    # The oracle: what the COCO API makes of it.
    if mask is background or not np.isfinite(mask[0]).all():
        empty = True
    else:
        empty = not any(coco_mask.area(runs) for runs in coco_mask.frPyObjects(mask, 64, 64))
    assert effects == ({'unnoticed' if which is one else 'senseless'} if empty else set())


def test_categories_that_are_not_chosen_are_noted(cfg):
    cfg.train_dataloader.dataset.metainfo = dict(classes=('ball', 'ring'))
    (result,) = audit(cfg, ['train'])
    assert not result.wrong
    assert {finding.problem for finding in result.findings} >= {'category that is not chosen'}
    assert list(result.counts) == ['ball', 'ring']


def test_classes_that_are_a_text(cfg, tmp_path):
    dataset = cfg.train_dataloader.dataset
    dataset.metainfo = dict(classes='ball')
    results = list(audit(cfg, ['train']))
    assert [finding.problem for finding in results[0].fatal] == ['classes are text']
    assert "('ball',)" in results[0].fatal[0].detail
    # A file of names is one that mmengine reads.
    names = tmp_path / 'names.txt'
    names.write_text('\n'.join(CLASSES))
    dataset.metainfo = dict(classes=str(names))
    assert found(cfg) == set()


def test_joined_data_sets_are_looked_into_each(cfg, sample_data, tmp_path):
    coco = content(sample_data, 'train')
    drop_ball(coco)
    coco['categories'].reverse()
    path = tmp_path / 'second.json'
    path.write_text(json.dumps(coco))
    first = cfg.train_dataloader.dataset
    second = {**first, 'ann_file': str(path)}
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[first, second])
    results = list(audit(cfg, ['train']))
    assert [result.key for result in results if result.fatal] == [
        'train_dataloader.dataset.datasets.1'
    ]
    second['metainfo'] = dict(classes=('box', 'cone', 'star', 'ring')[::-1])
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[first, second])
    fatal = [finding.problem for result in audit(cfg, ['train']) for finding in result.fatal]
    assert fatal == ['class lists differ']


@pytest.mark.parametrize(
    'change, problem',
    [
        (lambda c: c['annotations'].clear(), 'no object is left'),
        (every('ignore', 1), 'no object is left'),
        (every('iscrowd', 1), 'iscrowd everywhere'),
    ],
)
def test_objects_are_looked_for_in_all_data_sets_of_a_split(
    cfg, sample_data, tmp_path, change, problem
):
    coco = content(sample_data, 'train')
    change(coco)
    path = tmp_path / 'background.json'
    path.write_text(json.dumps(coco))
    objects = cfg.train_dataloader.dataset
    background = {**objects, 'ann_file': str(path)}
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[objects, background])
    results = list(audit(cfg, ['train', 'val']))
    assert [f.problem for result in results for f in result.wrong] == []
    assert problem in {finding.problem for finding in results[1].findings}
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[background] * 2)
    fatal = [f for result in audit(cfg, ['train', 'val']) for f in result.fatal]
    assert [finding.problem for finding in fatal] == [problem] * 2
    assert problem != 'no object is left' or 'marked with ignore' in fatal[0].detail


@pytest.mark.parametrize(
    'change, fix',
    [
        (lambda c: c['annotations'].clear(), 'add annotations'),
        (
            lambda c: [i.update(width=20, height=20) for i in c['images']],
            'change the filter_cfg',
        ),
    ],
)
def test_the_fix_where_nothing_is_left(cfg, sample_data, tmp_path, change, fix):
    coco = content(sample_data, 'train')
    change(coco)
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(coco))
    use(cfg, 'train', path)
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=True, min_size=32)
    (finding,) = [
        finding
        for result in audit(cfg, ['train'])
        for finding in result.fatal
        if finding.problem == 'nothing is left of the images'
    ]
    assert finding.detail.endswith(fix)


@pytest.mark.parametrize(
    'encoding, text',
    [
        ('utf-8-sig', 'byte order mark'),
        ('utf-16', 'UTF-16'),
        ('latin-1', '0xe4'),
        (None, 'file is not JSON'),
    ],
)
def test_encodings(cfg, sample_data, tmp_path, encoding, text):
    coco = content(sample_data, 'train')
    coco['images'][0]['photo'] = 'Präparat'
    path = tmp_path / 'train.json'
    data = json.dumps(coco, ensure_ascii=False)
    path.write_bytes(data.encode(encoding) if encoding else b'[' * 100_000)
    use(cfg, 'train', path)
    (result,) = audit(cfg, ['train'])
    (finding,) = result.fatal
    assert text in f'{finding.problem} {finding.detail}'
    if encoding:
        with pytest.raises(ValueError):
            json.loads(path.read_text(encoding='utf-8'))
        assert result.images == 16


def test_an_empty_folder_of_a_class(repo, digits_data, tmp_path):
    cfg = Config.fromfile(repo / 'configs/sample/classifier_vit_mpvg_sample.py')
    init_default_scope(cfg.default_scope)
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = f'{digits_data}/'
    results = list(audit(cfg, ['train'], 'headers'))
    assert [result.wrong for result in results] == [[]]
    assert set(results[0].counts.values()) == {16}
    (tmp_path / 'list.txt').write_text('0/a.png 0\n1/b.png 11\n')
    dataset.ann_file = str(tmp_path / 'list.txt')
    dataset.metainfo = dict(classes=[str(digit) for digit in range(10)])
    assert found(cfg, 'train') == {
        ('label outside the classes', 'stops'),
        ('class without an image', 'unnoticed'),
    }


def test_classes_of_folders_are_compared(repo, digits_data, tmp_path):
    cfg = Config.fromfile(repo / 'configs/sample/classifier_vit_mpvg_sample.py')
    init_default_scope(cfg.default_scope)
    shutil.copytree(digits_data, tmp_path / 'digits')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{tmp_path}/digits/'
    assert found(cfg) == set()
    # The labels of 4 to 9 are one less than in training.
    shutil.rmtree(tmp_path / 'digits/val/3')
    assert found(cfg) == {('class lists differ', 'senseless')}
    cfg.model.type = 'ImageToImageRetriever'
    assert found(cfg) == set()


@pytest.fixture
def segmentation(repo, sample_data):
    """The segmentation config on the sample data of the tests."""
    cfg = Config.fromfile(repo / 'configs/sample/upernet_vit_mpvg_sample.py')
    init_default_scope(cfg.default_scope)
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{sample_data}/'
    return cfg


def test_label_maps_say_how_far_they_are(segmentation):
    steps = []
    (result,) = audit(segmentation, ['train'], 'headers', 2, lambda *step: steps.append(step))
    key = 'train_dataloader.dataset'
    assert steps == [(key, 0, 0), *((f'{key}: label maps', n, 16) for n in range(1, 17))]
    assert 'pixels (of 16 label maps) of 6 classes' in result.describe_counts()
    assert min(result.counts.values()) > 0


@pytest.mark.parametrize('depth', ['annotations', 'headers', 'pixels'])
def test_masks_of_another_suffix(segmentation, depth):
    segmentation.train_dataloader.dataset.seg_map_suffix = '_mask.png'
    (result,) = audit(segmentation, ['train'], depth)
    (finding,) = result.findings
    assert (finding.problem, finding.effect) == ('mask missing', 'stops')
    assert '16 of 16 files' in finding.detail and 'seg_map_suffix' in finding.detail


@pytest.mark.parametrize('number, effects', [(8, {'replaced'}), (9, {'stops'})])
def test_images_that_are_empty(cfg, sample_data, tmp_path, number, effects):
    shutil.copytree(sample_data, tmp_path / 'data')
    cfg.train_dataloader.dataset.data_root = f'{tmp_path}/data/'
    for path in sorted((tmp_path / 'data/images/train').iterdir())[:number]:
        path.write_bytes(b'')
    (result,) = audit(cfg, ['train'], 'headers')
    assert {f.effect for f in result.findings} == effects
    assert {f.problem for f in result.findings} == {'image cannot be decoded'}


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_encodings_of_lists(segmentation, repo, digits_data, tmp_path, task, encoding):
    cfg = segmentation
    if task == 'classification':
        cfg = Config.fromfile(repo / 'configs/sample/classifier_vit_mpvg_sample.py')
        init_default_scope(cfg.default_scope)
        cfg.train_dataloader.dataset.data_root = f'{digits_data}/'
    path = tmp_path / 'list.txt'
    path.write_text('0/a.png 0\n', encoding=encoding)
    cfg.train_dataloader.dataset.ann_file = str(path)
    (result,) = audit(cfg, ['train'])
    (finding,) = result.findings
    assert (finding.path, finding.problem) == (str(path), 'file is not plain UTF-8')


@pytest.mark.parametrize('backend, noted', [('local', False), ('petrel', True)])
def test_the_backend_of_the_local_disk(cfg, backend, noted):
    cfg.train_dataloader.dataset.backend_args = dict(backend=backend)
    problems = {problem for problem, _ in found(cfg, 'train')}
    assert problems == ({'annotations are not looked into'} if noted else set())


def test_run_lengths_are_read_as_the_coco_api_does():
    rng = np.random.default_rng(0)
    masks = [np.zeros((7, 5), np.uint8), np.ones((7, 5), np.uint8)]
    for height, width in rng.integers(1, 90, (60, 2)):
        masks.append((rng.random((height, width)) < rng.random()).astype(np.uint8))
    encoded = [coco_mask.encode(np.asfortranarray(mask)) for mask in masks]
    texts = [mask['counts'].decode() for mask in encoded]
    assert all(map(is_encoded, texts))
    runs, numbers = decode_counts(texts)
    expected = [runs_of(mask.ravel('F')) for mask in masks]
    assert numbers.tolist() == [len(counts) for counts in expected]
    assert runs.tolist() == [run for counts in expected for run in counts]

    boxes = extents(runs, numbers, np.array([len(mask) for mask in masks]))
    shown = [index for index, mask in enumerate(masks) if mask.any()]
    assert np.isnan(boxes[0]).all()
    rows = np.array([np.flatnonzero(masks[index].any(1))[[0, -1]] for index in shown])
    columns = np.array([np.flatnonzero(masks[index].any(0))[[0, -1]] for index in shown])
    truth = np.stack([columns[:, 0], rows[:, 0], columns[:, 1] + 1, rows[:, 1] + 1], 1)
    assert boxes[shown].tolist() == truth.tolist()
    assert not any(map(is_encoded, ['', 'ä', ' 1', 'p', 'P', texts[-1] + 'P']))

"""The sample data set: same bytes, agreeing truths, and fit for mmdet's and mmseg's own classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmpvg.datasets.sample import (
    SAMPLE_CLASSES,
    SAMPLE_PALETTE,
    SAMPLE_PHOTOS,
    SAMPLE_SEG_CLASSES,
    SAMPLE_SEG_PALETTE,
    SAMPLE_SPLITS,
    draw_preview,
    make_sample_dataset,
    sample_scene,
)
from mmpvg.datasets.sample.render import load_photos

ROOT = Path(__file__).resolve().parents[3]
COUNTS = {'train': 24, 'val': 10}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('sample') / 'data'
    make_sample_dataset(out, COUNTS['train'], COUNTS['val'], seed=3, progress=False)
    return out


@pytest.fixture(scope='module')
def scenes() -> dict[str, list]:
    """The scenes behind ``data``, before they were written."""
    photos = {split: load_photos(split) for split in SAMPLE_SPLITS}
    return {
        split: [sample_scene(split, i, 3, photos[split]) for i in range(COUNTS[split])]
        for split in SAMPLE_SPLITS
    }


def _coco(root: Path, split: str) -> dict:
    return json.loads((root / 'annotations' / f'instances_{split}.json').read_text())


def _bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def test_same_seed_gives_the_same_bytes(data, tmp_path):
    make_sample_dataset(tmp_path / 'again', COUNTS['train'], COUNTS['val'], 3, progress=False)
    assert _bytes(tmp_path / 'again') == _bytes(data)


def test_another_seed_gives_other_bytes(data, tmp_path):
    make_sample_dataset(tmp_path / 'other', 2, 2, seed=4, progress=False)
    ours = _bytes(data)
    for name, content in _bytes(tmp_path / 'other').items():
        assert content != ours[name], name


def test_scenes_do_not_depend_on_how_many_are_made(data, tmp_path):
    make_sample_dataset(tmp_path / 'small', 3, 2, seed=3, progress=False)
    ours = _bytes(data)
    small = {n: c for n, c in _bytes(tmp_path / 'small').items() if not n.endswith('.json')}
    assert len(small) == 2 * (3 + 2)
    assert all(content == ours[name] for name, content in small.items())
    for split in SAMPLE_SPLITS:
        few, many = _coco(tmp_path / 'small', split), _coco(data, split)
        for key in ('images', 'annotations'):
            assert few[key] == many[key][: len(few[key])]


def test_images_on_disk_are_the_scenes(data, scenes):
    for split in SAMPLE_SPLITS:
        for i, scene in enumerate(scenes[split]):
            image = np.asarray(Image.open(data / 'images' / split / f'{i:06d}.jpg')).astype(int)
            assert np.abs(image - scene.image).mean() < 5  # gray levels; JPEG
    shapes = {split: [s.instances.shape for s in scenes[split][:10]] for split in SAMPLE_SPLITS}
    assert shapes['train'] != shapes['val']  # the splits do not share their dice


def test_pycocotools_reads_it_and_every_field_fits_the_mask(data):
    from pycocotools.coco import COCO

    for split in SAMPLE_SPLITS:
        coco = COCO(str(data / 'annotations' / f'instances_{split}.json'))
        assert [cat['name'] for cat in coco.loadCats(coco.getCatIds())] == list(SAMPLE_CLASSES)
        assert len(coco.getImgIds()) == COUNTS[split]
        for ann in coco.loadAnns(coco.getAnnIds()):
            mask = coco.annToMask(ann)
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert ann['bbox'] == box
            assert ann['area'] == mask.sum() > 100
            assert ann['iscrowd'] == 0


def test_instances_and_semantic_map_agree_at_every_pixel(data):
    from pycocotools import mask as mask_api

    unlabeled = total = 0
    for split in SAMPLE_SPLITS:
        coco = _coco(data, split)
        for entry in coco['images']:
            with Image.open(data / 'images' / split / entry['file_name']) as image:
                assert image.size == (entry['width'], entry['height'])
            stem = Path(entry['file_name']).stem
            seg_map = np.asarray(Image.open(data / 'annotations' / split / f'{stem}.png'))
            assert seg_map.dtype == np.uint8 and seg_map.ndim == 2

            expected = np.ones((entry['height'], entry['width']), dtype=int)  # background
            covered = np.zeros_like(expected)
            outline = np.zeros(expected.shape, dtype=bool)
            for ann in coco['annotations']:
                if ann['image_id'] == entry['id']:
                    mask = mask_api.decode(ann['segmentation']).astype(bool)
                    expected[mask] = ann['category_id'] + 1
                    covered += mask
                    outline[:-1] |= mask[:-1] != mask[1:]
                    outline[:, :-1] |= mask[:, :-1] != mask[:, 1:]
            assert covered.max() == 1  # visible masks share no pixel
            expected[outline] = 0
            np.testing.assert_array_equal(seg_map, expected)
            unlabeled += (seg_map == 0).sum()
            total += seg_map.size
    assert 0 < unlabeled < 0.1 * total


def test_objects_occlude_one_another_but_stay_recognizable(data, scenes):
    scenes = scenes['train']
    visible = [share for scene in scenes for share in scene.visible]
    assert sum(share < 0.9 for share in visible) >= 0.1 * len(visible)
    assert min(visible) >= 0.45
    counts = [len(scene.labels) for scene in scenes]
    assert min(counts) == 1 and max(counts) >= 4
    # What is hidden is not annotated: the written areas are those of the visible parts.
    areas = [int((s.instances == k + 1).sum()) for s in scenes for k in range(len(s.labels))]
    assert areas == [ann['area'] for ann in _coco(data, 'train')['annotations']]


def test_a_ring_has_a_hole(scenes):
    from scipy.ndimage import binary_fill_holes

    rings = [
        (scene.instances == k + 1)
        for scene in scenes['train']
        for k, label in enumerate(scene.labels)
        if SAMPLE_CLASSES[label] == 'ring' and scene.visible[k] == 1
    ]
    assert rings
    assert any(binary_fill_holes(ring).sum() > 1.1 * ring.sum() for ring in rings)


def test_sizes_vary_and_never_fit_the_patch(data):
    sizes = {(e['height'], e['width']) for s in SAMPLE_SPLITS for e in _coco(data, s)['images']}
    assert len(sizes) > 20
    assert all(h % 8 and w % 8 and h != w and 96 < min(h, w) for h, w in sizes)
    assert any(h > w for h, w in sizes) and any(h < w for h, w in sizes)


def test_every_class_occurs_in_both_splits(data):
    for split in SAMPLE_SPLITS:
        found = {ann['category_id'] for ann in _coco(data, split)['annotations']}
        assert found == set(range(1, len(SAMPLE_CLASSES) + 1))


def test_backgrounds_of_val_were_never_seen(data):
    seen = {split: {e['photo'] for e in _coco(data, split)['images']} for split in SAMPLE_SPLITS}
    assert len(seen['train']) >= 5 and len(seen['val']) >= 3
    assert not seen['train'] & seen['val']
    assert not set(SAMPLE_PHOTOS['train']) & set(SAMPLE_PHOTOS['val'])


def test_palettes_fit_the_classes():
    assert SAMPLE_SEG_CLASSES == ('background', *SAMPLE_CLASSES)
    assert SAMPLE_SEG_PALETTE[1:] == SAMPLE_PALETTE
    assert len(set(SAMPLE_SEG_PALETTE)) == len(SAMPLE_SEG_CLASSES)


def test_mmdet_coco_dataset_loads_it(data, scenes):
    pytest.importorskip('mmdet')
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(data),
            ann_file='annotations/instances_train.json',
            data_prefix=dict(img='images/train/'),
            metainfo=dict(classes=SAMPLE_CLASSES, palette=SAMPLE_PALETTE),
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                dict(type='PackDetInputs'),
            ],
        )
    )
    assert len(dataset) == COUNTS['train']  # nothing was filtered
    for i in range(len(dataset)):
        scene = scenes['train'][i]
        item = dataset[i]
        truth = item['data_samples'].gt_instances
        assert item['inputs'].shape[1:] == scene.instances.shape
        assert truth.labels.tolist() == list(scene.labels)
        for k, mask in enumerate(truth.masks.masks, start=1):
            np.testing.assert_array_equal(mask, scene.instances == k)
        # Boxes are x1, y1, x2, y2 around the masks, none ignored.
        np.testing.assert_allclose(truth.bboxes.tensor, truth.masks.get_bboxes('hbox').tensor)
        assert len(item['data_samples'].ignored_instances) == 0


def test_mmseg_dataset_loads_it(data, scenes):
    # ADE20KDataset itself refuses class names that are not ADE20K's; its base class, with the same
    # files and the same reduce_zero_label, is the one for other names.
    pytest.importorskip('mmseg')
    from mmengine.registry import init_default_scope
    from mmseg.registry import DATASETS

    init_default_scope('mmseg')
    dataset = DATASETS.build(
        dict(
            type='BaseSegDataset',
            data_root=str(data),
            data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
            img_suffix='.jpg',
            seg_map_suffix='.png',
            reduce_zero_label=True,
            metainfo=dict(classes=SAMPLE_SEG_CLASSES, palette=SAMPLE_SEG_PALETTE),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(type='PackSegInputs'),
            ],
        )
    )
    assert len(dataset) == COUNTS['val']
    seen = set()
    for i in range(len(dataset)):
        scene = scenes['val'][i]
        labels = dataset[i]['data_samples'].gt_sem_seg.data[0].numpy()
        written = scene.semantic().astype(int)
        # 0 is ignored (255), everything else moves down by one.
        np.testing.assert_array_equal(labels, np.where(written == 0, 255, written - 1))
        seen |= set(np.unique(labels).tolist())
    assert seen == {*range(len(SAMPLE_SEG_CLASSES)), 255}


def test_second_run_does_nothing(tmp_path):
    first = make_sample_dataset(tmp_path / 'd', 2, 1, progress=False)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'd').rglob('*')}
    second = make_sample_dataset(tmp_path / 'd', 2, 1, progress=False)
    assert first.created and not second.created
    assert (first.images, first.objects) == (second.images, second.objects)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / 'd').rglob('*')} == before
    written = _coco(tmp_path / 'd', 'train')['annotations']
    assert sum(first.objects['train'].values()) == len(written)


def test_other_arguments_need_force(tmp_path):
    make_sample_dataset(tmp_path / 'd', 3, 1, seed=0, progress=False)
    with pytest.raises(FileExistsError, match=r'(?s)seed 0.*seed 1.*--force'):
        make_sample_dataset(tmp_path / 'd', 3, 1, seed=1, progress=False)
    assert make_sample_dataset(tmp_path / 'd', 2, 1, seed=1, force=True, progress=False).created
    # mmseg lists folders: an image left over from the larger set would slip into the smaller one.
    assert len(list((tmp_path / 'd' / 'images' / 'train').iterdir())) == 2


def test_a_damaged_data_set_is_noticed(tmp_path):
    make_sample_dataset(tmp_path / 'd', 2, 1, progress=False)
    (tmp_path / 'd' / 'annotations' / 'train' / '000001.png').unlink()
    with pytest.raises(FileExistsError, match=r'1 \.png files instead of 2.*--force'):
        make_sample_dataset(tmp_path / 'd', 2, 1, progress=False)
    assert make_sample_dataset(tmp_path / 'd', 2, 1, force=True, progress=False).created


def test_an_interrupted_run_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    import mmpvg.datasets.sample.split as module

    def interrupt(split, index, *args):
        if split == 'val':
            raise KeyboardInterrupt
        return sample_scene(split, index, *args)

    with monkeypatch.context() as patch:
        patch.setattr(module, 'sample_scene', interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_sample_dataset(tmp_path / 'd', 2, 1, progress=False)
    assert not (tmp_path / 'd').exists()
    assert list(tmp_path.rglob('*.jpg')) and not list(tmp_path.rglob('mmpvg_sample.json'))

    assert make_sample_dataset(tmp_path / 'd', 2, 1, progress=False).created
    assert [p.name for p in tmp_path.iterdir()] == ['d']


def test_foreign_files_are_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    for force in (False, True):
        with pytest.raises(FileExistsError, match='another --out'):
            make_sample_dataset(tmp_path, 2, 1, force=force, progress=False)
    assert (tmp_path / 'thesis.txt').read_text() == 'years of work'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_train=0), 'num_train must be a whole number of at least 1, got 0'),
        (dict(num_val=-2), 'num_val must be a whole number of at least 1, got -2'),
        (dict(num_train=2.5), 'num_train must be a whole number of at least 1, got 2.5'),
        (dict(seed=-1), 'seed must be a whole number of at least 0, got -1'),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_sample_dataset(tmp_path / 'd', progress=False, **arguments)
    assert not list(tmp_path.iterdir())


def test_unknown_split():
    with pytest.raises(ValueError, match=r"one of \('train', 'val'\), got 'test'"):
        sample_scene('test', 0)


def test_missing_photographs_are_named(monkeypatch):
    monkeypatch.setitem(SAMPLE_PHOTOS, 'val', ('no_such_photo.png',))
    with pytest.raises(FileNotFoundError, match=r'no_such_photo.png is missing.*pip install'):
        sample_scene('val', 0)


def test_preview_shows_every_class_color_it_should(data, tmp_path):
    sheet = np.asarray(Image.open(draw_preview(data, tmp_path / 'preview.png', rows=2)))
    colors = {tuple(c) for c in np.unique(sheet.reshape(-1, 3), axis=0).tolist()}
    assert set(SAMPLE_SEG_PALETTE) <= colors


def test_tool_makes_skips_and_refuses(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, 'tools/make_sample_dataset.py', '--out', tmp_path / 'd', *arguments],
            cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            capture_output=True,
            text=True,
        )

    first = run('--num-train', '2', '--num-val', '1')
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith('made') and '3/3' in first.stderr
    assert (tmp_path / 'd' / 'preview.png').stat().st_size > 10_000

    second = run('--num-train', '2', '--num-val', '1')
    assert second.returncode == 0 and second.stdout.startswith('already there')

    other = run('--num-train', '2', '--num-val', '2')
    assert other.returncode == 1
    assert other.stderr.startswith('error:') and '--force' in other.stderr
    assert 'Traceback' not in other.stderr


def test_importing_needs_neither_skimage_nor_torch():
    code = (
        'import sys, mmpvg.datasets.sample; '
        "assert not {'skimage', 'torch', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)

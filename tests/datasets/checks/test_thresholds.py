"""Each threshold of the audit has data on either side of it."""

import shutil

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmpvg.datasets.checks.annotations import check_boxes
from mmpvg.datasets.checks.audit import audit
from mmpvg.datasets.checks.coco_table import read_table
from mmpvg.datasets.checks.masks import check_masks

BOX = [10, 10, 40, 40]


def rectangle(left, top, width, height):
    right, bottom = left + width, top + height
    return [[left, top, right, top, right, bottom, left, bottom]]


def table(annotations):
    """Annotations (box, mask) of one image of 100 x 80 pixels."""
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=100, height=80)],
        categories=[dict(id=1, name='a')],
        annotations=[
            dict(id=i, image_id=1, category_id=1, bbox=box, area=100, segmentation=mask, iscrowd=0)
            for i, (box, mask) in enumerate(annotations, 1)
        ],
    )
    result, findings = read_table(content, 'a.json', '')
    assert not findings
    return result


def kinds(findings):
    return {(finding.problem, finding.effect) for finding in findings}


@pytest.mark.parametrize(
    'box, height, found',
    [
        # Shared: 0.55 and 0.45 of the union.
        (BOX, 22, False),
        (BOX, 18, True),
        # Less, but by no more than 2 pixels.
        ([10, 10, 3, 3], 1.1, False),
        ([10, 10, 6, 6], 2.9, True),
    ],
)
def test_a_mask_and_its_box(box, height, found):
    findings = check_masks(table([(box, rectangle(*box[:3], height))]), True)
    assert kinds(findings) == ({('mask beside its box', 'unnoticed')} if found else set())


@pytest.mark.parametrize(
    'number, expected',
    [(19, ('mask beside its box', 'unnoticed')), (20, ('masks beside their boxes', 'senseless'))],
)
def test_how_many_masks_beside_their_boxes(number, expected):
    sound, moved = (BOX, rectangle(*BOX)), (BOX, rectangle(60, 50, 20, 20))
    findings = check_masks(table([moved] * number + [sound] * (100 - number)), True)
    assert kinds(findings) == {expected}


@pytest.mark.parametrize(
    'mask, single, whole',
    [([[1, 2]], 'left out', 'senseless'), ([1, 2, 3, 4, 5, 6], 'replaced', 'stops')],
)
def test_how_many_masks_that_are_broken(mask, single, whole):
    sound = (BOX, rectangle(*BOX))
    for number, expected in ((49, single), (50, whole)):
        findings = check_masks(table([(BOX, mask)] * number + [sound] * (100 - number)), True)
        assert {finding.effect for finding in findings} == {expected}


@pytest.mark.parametrize('counts, found', [([890, 40, 7070], False), ([890, 60, -20, 7070], True)])
def test_negative_runs_whose_sum_is_right(counts, found):
    mask = dict(size=[80, 100], counts=counts)
    findings = check_masks(table([([11, 10, 1, 40], mask)]), True)
    problem = ('run lengths of another sum', 'replaced')
    assert kinds(findings) == ({problem} if found else set())


@pytest.mark.parametrize('number, found', [(5, False), (6, True)])
def test_how_many_boxes_leave_their_image(number, found):
    # As corners, all of them fit.
    boxes = [[50, 40, 90, 70]] * number + [[10, 10, 40, 40]] * (100 - number)
    findings = check_boxes(table([(box, None) for box in boxes]), True)
    assert (('boxes are corners', 'senseless') in kinds(findings)) == found


def test_how_many_label_maps_are_read(repo, sample_data, tmp_path):
    cfg = Config.fromfile(repo / 'configs/sample/upernet_vit_mpvg_sample.py')
    init_default_scope(cfg.default_scope)
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = f'{tmp_path}/'
    for name, folder in dataset.data_prefix.items():
        suffix = '.jpg' if name == 'img_path' else '.png'
        files = sorted((sample_data / folder).glob(f'*{suffix}'))
        (tmp_path / folder).mkdir(parents=True)
        for number in range(70):
            copy = f'{number:02}{suffix}'
            shutil.copy(files[number % len(files)], tmp_path / folder / copy)
    for depth, number in (('annotations', 64), ('headers', 70)):
        steps = []
        (result,) = audit(cfg, ['train'], depth, progress=lambda *s, to=steps: to.append(s[1:]))
        assert result.images == 70 and not result.wrong
        assert steps[-1] == (number, number)
        assert f'of {number} label maps' in result.describe_counts()
    # The last is read of a sample, too, and the second last is not.
    assert np.linspace(0, 69, 64).astype(int)[-2:].tolist() == [67, 69]

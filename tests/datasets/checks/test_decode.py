"""Every kind of damage is found, and nothing in whole data."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from benchmarks.robustness.damaged_data import damage_dataset
from mmpvg.datasets.checks.audit import audit
from mmpvg.datasets.checks.decode import check_dataset, loading_transforms
from mmpvg.datasets.checks.finding import summarize_findings

CONFIGS = dict(
    detection='configs/sample/mask_rcnn_vit_mpvg_sample.py',
    segmentation='configs/sample/upernet_vit_mpvg_sample.py',
)
# What each kind of damage is called when it is found, and what training does.
EXPECTED = {
    'image truncated': ('image cannot be decoded', 'replaced'),
    'image missing': ('image missing', 'replaced'),
    'image empty': ('image cannot be decoded', 'replaced'),
    'image is text': ('image cannot be decoded', 'replaced'),
    'box without area': ('box without area', 'left out'),
    'box outside': ('box outside the image', 'left out'),
    'box not finite': ('not finite', 'replaced'),
    'category unknown': ('category outside the classes', 'left out'),
    'mask of another size': ('mask of another size', 'replaced'),
    'no object': ('no object', 'noted'),
    'size unlike annotations': ('size unlike its annotations', 'replaced'),
    'mask missing': ('mask missing', 'replaced'),
    'mask truncated': ('mask cannot be decoded', 'replaced'),
    'no labeled pixel': ('no labeled pixel', 'left out'),
    'label outside': ('label outside the classes', 'stops'),
}


def look(repo, task, root, jobs=1):
    cfg = Config.fromfile(repo / CONFIGS[task])
    init_default_scope(cfg.default_scope)
    cfg.train_dataloader.dataset.data_root = f'{root}/'
    return [f for result in audit(cfg, ['train'], 'pixels', jobs) for f in result.findings]


@pytest.mark.parametrize('task', CONFIGS)
def test_whole_data_has_no_findings(repo, task, sample_data):
    assert look(repo, task, sample_data) == []


@pytest.mark.parametrize('jobs', [1, 2])
@pytest.mark.parametrize('task', CONFIGS)
def test_each_damage_is_found(repo, task, jobs, sample_data, tmp_path):
    done = damage_dataset(sample_data, tmp_path / 'data', task, 11, seed=jobs)
    if task == 'segmentation':
        # Other images than those of before, which are gone or changed.
        done += damage_labels(tmp_path, done)
    found = defaultdict(set)
    for finding in look(repo, task, tmp_path / 'data', jobs):
        # Of an image or of its label map, which has the same name.
        found[Path(finding.path).stem].add((finding.problem, finding.effect))
    assert set(found) == {Path(damage.path).stem for damage in done}
    for damage in done:
        problem, effect = EXPECTED[damage.kind]
        if damage.kind == 'image missing' and task == 'segmentation':
            # mmseg lists the images that are there.
            effect = 'left out'
        assert (problem, effect) in found[Path(damage.path).stem], (damage, found)


def damage_labels(tmp_path, done):
    whole = [p for p in sorted((tmp_path / 'data/images/train').glob('*.jpg'))]
    path = next(p for p in whole if str(p) not in {damage.path for damage in done})
    seg_map = tmp_path / 'data/annotations/train' / path.with_suffix('.png').name
    with Image.open(seg_map) as file:
        Image.new('L', file.size, 77).save(seg_map)
    return [type(done[0])('label outside', str(path))]


def test_the_tool_prints_a_table_and_draws(run_tool, repo, sample_data, tmp_path, capsys):
    damage_dataset(sample_data, tmp_path / 'data', 'detection', 11)

    def check(data):
        root = f'train_dataloader.dataset.data_root={data}/'
        arguments = [repo / CONFIGS['detection'], '--out', tmp_path / 'out', '--split', 'train']
        run_tool('misc/check_dataset.py', *arguments, '--cfg-options', root)

    with pytest.raises(SystemExit) as ended:
        check(tmp_path / 'data')
    assert ended.value.code == 1
    found = '| image missing | another image is taken | 1 | 1 |'
    assert found in capsys.readouterr().out
    with (tmp_path / 'out/findings.csv').open(encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert {'box outside the image', 'not finite'} <= {row['problem'] for row in rows}
    with Image.open(tmp_path / 'out/findings.png') as sheet:
        colors = {color for _, color in sheet.getcolors(1 << 20)}
    assert (220, 30, 30) in colors and sheet.width > 900
    check(sample_data)
    assert 'nothing is wrong' in capsys.readouterr().out


def test_the_worst_comes_first(repo, sample_data, tmp_path):
    damage_dataset(sample_data, tmp_path / 'data', 'segmentation', 3, kinds=['label outside'])
    damage_dataset(
        tmp_path / 'data', tmp_path / 'more', 'segmentation', 4, seed=7, kinds=['image missing']
    )
    rows = summarize_findings(look(repo, 'segmentation', tmp_path / 'more'))
    assert [row[:3] for row in rows[:-1]] == [('label outside the classes', 'stops', rows[0][2])]
    assert rows[-1][:4] == ('image missing', 'left out', 4, 4)
    assert Path(rows[-1][4].split(':')[0]).suffix == '.jpg'


def test_what_loads():
    kinds = ['LoadImageFromFile', 'mmdet.LoadAnnotations', 'mmpvg.CheckLoaded', 'Resize']
    found = loading_transforms([dict(type=kind) for kind in kinds])
    assert [transform['type'] for transform in found] == kinds[:3]
    with pytest.raises(ValueError, match='no transform of a type Load'):
        next(check_dataset(dict(type='mmdet.CocoDataset', pipeline=[dict(type='Resize')])))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(task='pose', number=1), "'pose'.*detection"),
        (dict(task='detection', number=1, kinds=['rust']), "'rust'.*image truncated"),
        (dict(task='detection', number=10**6), 'not 1000000'),
    ],
)
def test_bad_arguments(sample_data, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        damage_dataset(sample_data, tmp_path / 'data', **arguments)


@pytest.mark.parametrize('jobs', [0, -1])
def test_jobs_are_one_or_more(run_refused, jobs):
    config = 'configs/sample/mask_rcnn_vit_mpvg_sample.py'
    message = run_refused('misc/check_dataset.py', config, f'--jobs={jobs}')
    assert 'no whole number from 1 on' in message


def test_an_interrupt_of_the_check(run_tool, repo, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmpvg.datasets.checks.audit.audit', interrupted)
    with pytest.raises(SystemExit) as ended:
        run_tool('misc/check_dataset.py', repo / 'configs/sample/mask_rcnn_vit_mpvg_sample.py')
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith('interrupted\n')

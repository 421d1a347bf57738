"""A training on unusable data ends before its first iteration, and says why."""

import json

import pytest
from mmengine.config import Config

from mmpvg.engine.config.data_audit import UnusableDataError, audited
from mmpvg.engine.hooks.class_count import check_metric_categories


@pytest.fixture
def cfg(repo, sample_data):
    cfg = Config.fromfile(repo / 'configs/sample/mask_rcnn_vit_mpvg_sample.py')
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{sample_data}/'
    cfg.val_evaluator.ann_file = f'{sample_data}/annotations/instances_val.json'
    return cfg


@pytest.fixture
def change(cfg, sample_data, tmp_path):
    """Train on annotations that a function has changed."""

    def apply(how):
        coco = json.loads((sample_data / 'annotations/instances_train.json').read_text())
        how(coco)
        path = tmp_path / 'changed.json'
        path.write_text(json.dumps(coco))
        cfg.train_dataloader.dataset.ann_file = str(path)

    return apply


def lines_of(runner):
    """What the logger says from now on."""
    lines = []
    runner.logger.info = runner.logger.warning = lines.append
    return lines


def test_classes_are_counted_once_at_the_start(cfg, tiny_run, tmp_path, sample_data):
    runner = tiny_run(tmp_path, epochs=1)
    lines = lines_of(runner)
    with audited(runner, cfg, ['train', 'val']):
        runner.train()
    assert runner.epoch == 1
    objects = json.loads((sample_data / 'mmpvg_sample.json').read_text())['objects']
    (counts,) = [line for line in lines if line.startswith('train_dataloader.dataset: 16 images')]
    assert all(f'{name} {number}' in counts for name, number in objects['train'].items())
    assert not [line for line in lines if line.startswith('Data')]


def test_unusable_data_stop_the_training(cfg, change, tiny_run, tmp_path):
    change(lambda coco: coco['categories'].reverse())
    runner = tiny_run(tmp_path / 'run', epochs=1)
    with pytest.raises(UnusableDataError, match="'ring' and is called 'ball'(.|\n)*--no-audit"):
        with audited(runner, cfg, ['train', 'val']):
            runner.train()
    assert runner.iter == 0


def test_other_findings_are_logged_once_each(cfg, change, tiny_run, tmp_path):
    def outside(coco):
        for annotation in coco['annotations'][:2]:
            annotation['bbox'] = [900, 900, 9, 9]

    change(outside)
    runner = tiny_run(tmp_path / 'run', epochs=1)
    lines = lines_of(runner)
    with audited(runner, cfg, ['train']):
        runner.train()
    found = [line for line in lines if line.startswith('Data')]
    assert len(found) == 1 and 'box outside the image, 2 times' in found[0]


def test_an_error_of_building_is_explained(cfg, change, tiny_run, tmp_path):
    def boxless(coco):
        del coco['annotations'][0]['bbox']

    change(boxless)
    runner = tiny_run(tmp_path / 'run', epochs=1)
    with pytest.raises(UnusableDataError, match="no 'bbox'") as raised:
        with audited(runner, cfg, ['train']):
            raise KeyError('bbox')
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_error_that_the_data_do_not_explain_stays(cfg, tiny_run, tmp_path):
    runner = tiny_run(tmp_path, epochs=1)
    with pytest.raises(KeyError, match='momentum'):
        with audited(runner, cfg, ['train']):
            raise KeyError('momentum')


def test_an_error_of_the_audit_stops_nothing(cfg, tiny_run, tmp_path):
    cfg.train_dataloader.dataset.pop('type')
    runner = tiny_run(tmp_path, epochs=1)
    lines = lines_of(runner)
    with audited(runner, cfg, ['train']):
        runner.train()
    assert runner.epoch == 1
    assert [line for line in lines if line.startswith('The data were not audited')]


@pytest.mark.parametrize('unchecked', [False, True])
def test_the_command_line(cfg, change, repo, run_tool, tmp_path, capsys, unchecked):
    change(lambda coco: [annotation.update(iscrowd=1) for annotation in coco['annotations']])
    path = tmp_path / 'config.py'
    cfg.train_cfg.max_epochs = 1
    cfg.train_cfg.val_interval = 9
    cfg.dump(path)
    arguments = [path, '--work-dir', tmp_path / 'run', *['--no-audit'] * unchecked]
    with pytest.raises(SystemExit) as ended:
        run_tool('train.py', *arguments)
    assert ended.value.code == (0 if unchecked else 2)
    printed = capsys.readouterr().err
    assert ('error: the data are not worth training on' in printed) != unchecked
    assert (tmp_path / 'run/epoch_1.pth').exists() == unchecked


def test_the_order_of_the_metrics_categories(cfg, sample_data, tmp_path):
    from mmdet.datasets import CocoDataset
    from mmdet.evaluation import CocoMetric

    file = sample_data / 'annotations/instances_val.json'
    classes = ('ball', 'box', 'cone', 'star', 'ring')
    dataset = CocoDataset(
        ann_file=str(file), metainfo=dict(classes=classes), data_prefix=dict(img='')
    )
    check_metric_categories(CocoMetric(str(file)), dataset)
    coco = json.loads(file.read_text())
    coco['categories'].reverse()
    (tmp_path / 'val.json').write_text(json.dumps(coco))
    with pytest.raises(ValueError, match='categories in another order'):
        check_metric_categories(CocoMetric(str(tmp_path / 'val.json')), dataset)

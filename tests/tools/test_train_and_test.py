"""The sample configs train, resume and test; upstream's own scripts read the result."""

import json
import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmpvg.apis.cli import test as run_test
from mmpvg.apis.cli import train as run_train
from mmpvg.apis.prediction_sheet import draw_prediction_sheet
from mmpvg.apis.tta import complete_for_classification, complete_for_detection

pytestmark = pytest.mark.slow


def checkpoint(work_dir, task, step):
    return str(work_dir / f'{task.steps}_{step}.pth')


def scalars(work_dir):
    """What training logged, one dict a line, the oldest run first."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def test_training_moves_every_parameter(task, trained):
    first = torch.load(checkpoint(trained, task, 1), map_location='cpu', weights_only=False)
    last = torch.load(checkpoint(trained, task, 2), map_location='cpu', weights_only=False)
    names = [name for name, value in last['state_dict'].items() if value.is_floating_point()]
    still = [n for n in names if torch.equal(first['state_dict'][n], last['state_dict'][n])]
    assert not still
    assert all(torch.isfinite(last['state_dict'][name]).all() for name in names)
    logged = scalars(trained)[0]
    assert [line for line in logged if task.metrics[0] in line], 'no validation at the end'


def test_resume_goes_on_from_the_checkpoint(task, trained, repo, data_options, tmp_path):
    runner = run_train(
        [str(repo / task.config), '--work-dir', str(tmp_path)]
        + ['--resume', checkpoint(trained, task, 1), '--cfg-options', *task.options, *data_options]
    )
    done = runner.epoch if task.steps == 'epoch' else runner.iter
    assert done == 2
    assert not Path(checkpoint(tmp_path, task, 1)).exists(), 'the first step was trained again'
    resumed = torch.load(checkpoint(tmp_path, task, 2), map_location='cpu', weights_only=False)
    whole = torch.load(checkpoint(trained, task, 2), map_location='cpu', weights_only=False)
    assert resumed['meta']['iter'] == whole['meta']['iter']
    # The optimizer went on too: a new one would have made one step, not all of them.
    steps = {int(state['step']) for state in resumed['optimizer']['state'].values()}
    assert steps == {resumed['meta']['iter']}


def test_bare_resume_and_the_recipes_switches(task, repo, data_options, tmp_path):
    """The first part is without validation."""
    command = [str(repo / task.config), '--work-dir', str(tmp_path), '--amp', '--auto-scale-lr']
    command += ['--resume', '--cfg-options', *data_options]
    first = [option for option in task.options if 'max_' not in option]
    first += [f'train_cfg.max_{task.steps}s=1', 'default_hooks.logger.interval=1']
    first += ['default_hooks.checkpoint.save_best=None']
    first += [f'{part}=None' for part in ('val_cfg', 'val_dataloader', 'val_evaluator')]
    runner = run_train([*command, *first])
    assert Path(checkpoint(tmp_path, task, 1)).exists() and runner.val_loop is None
    # Mixed precision falls back on a host without a GPU.
    scaled = pytest.approx(task.lr * task.batch_share)
    assert runner.optim_wrapper.param_groups[0]['initial_lr'] == scaled
    if not torch.cuda.is_available():
        assert type(runner.optim_wrapper).__name__ == 'OptimWrapper'
    runner = run_train([*command, *task.options])
    assert len(scalars(tmp_path)) == 2
    steps = {int(s['step']) for s in runner.optim_wrapper.optimizer.state.values()}
    assert steps == {runner.iter}


def test_a_resume_with_a_changed_config_stops(task, trained, repo, data_options, tmp_path):
    """Before training: a learning rate that is scaled to another batch, another native size."""
    command = [str(repo / task.config), '--work-dir', str(tmp_path)]
    command += ['--resume', checkpoint(trained, task, 1), '--auto-scale-lr', '--cfg-options']
    command += [*task.options, *data_options]
    with pytest.raises(ValueError, match=rf'lr {task.lr:g} \(config: .*--resume-schedule config'):
        run_train(command)
    shapes = r'position_embedding.* in place of .*load_from='
    with pytest.raises(ValueError, match=shapes):
        run_train([*command, 'model.backbone.img_size=64'])


def test_our_test_gives_the_validation_metrics_pictures_and_predictions(
    task, trained, repo, data_options, tmp_path, monkeypatch
):
    """Runs of one second keep their folders."""
    monkeypatch.setattr('mmengine.runner.runner.time.strftime', lambda *_: '20000101_000000')
    in_one_file = task.owner != 'mmseg'
    out = tmp_path / ('predictions.pkl' if in_one_file else 'predictions')
    logged = scalars(trained)[0][-1]
    for name, more in (('first', []), ('second', ['--out', str(out)])):
        metrics = run_test(
            [str(repo / task.config), checkpoint(trained, task, 2), *more, '--work-dir']
            + [str(tmp_path / name), '--show-dir', str(tmp_path / name / 'shown'), '--cfg-options']
            + data_options
        )
        for metric in task.metrics:
            assert metrics[metric] == pytest.approx(logged[metric], abs=1e-3)
        shown = [*(tmp_path / name).rglob('*.jpg'), *(tmp_path / name).rglob('*.png')]
        assert len(shown) == task.num_val_images
    if in_one_file:
        with out.open('rb') as file:
            assert len(pickle.load(file)) == task.num_val_images
    else:
        maps = [np.asarray(Image.open(path)) for path in out.glob('*.png')]
        assert len(maps) == 4
        # ADE20K's convention for submissions: labels from 1.
        assert all(1 <= m.min() and m.max() <= 6 for m in maps)


def test_upstreams_own_test_script_reads_it(task, trained, repo, data_options, tmp_path):
    script = Path(find_spec(task.owner).origin).parent / '.mim/tools/test.py'
    environment = {**os.environ, 'PYTHONPATH': str(repo)}
    done = subprocess.run(
        [sys.executable, script, repo / task.config, checkpoint(trained, task, 2)]
        + ['--work-dir', tmp_path, '--cfg-options', *data_options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = tmp_path.glob('*/*.json')
    metrics, logged = json.loads(file.read_text()), scalars(trained)[0][-1]
    for name in task.metrics:
        assert metrics[name] == pytest.approx(logged[name], abs=1e-3)


def test_upstreams_own_train_script_trains_it(task, repo, data_options, tmp_path):
    """What ``mim train mmdet CONFIG`` runs."""
    script = Path(find_spec(task.owner).origin).parent / '.mim/tools/train.py'
    if not script.exists():
        pytest.skip(f'this wheel of {task.owner} carries no tools/train.py')
    done = subprocess.run(
        [sys.executable, script, repo / task.config, '--work-dir', tmp_path]
        + ['--cfg-options', *task.options, *data_options],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(repo)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Path(checkpoint(tmp_path, task, 2)).exists()


def test_prediction_sheet(task, trained, repo, data_options, tmp_path):
    """Image, ground truth and prediction stand side by side, the ground truth where it is."""
    if task.owner == 'mmpretrain':
        pytest.skip('a classifier predicts nothing that has a place; --show-dir draws its scores')
    cfg = Config.fromfile(repo / task.config)
    cfg.test_dataloader.dataset.data_root = data_options[0].split('=')[1]
    out = draw_prediction_sheet(
        cfg, checkpoint(trained, task, 2), tmp_path / 'new' / 'sheet.png', num_images=4, scale=2
    )
    sheet = np.asarray(Image.open(out).convert('RGB')).astype(int)
    first = next(Path(cfg.test_dataloader.dataset.data_root, 'images/val').glob('000000.*'))
    with Image.open(first) as file:
        width, height = file.width * 2, file.height * 2
    top = 36
    panels = [sheet[top : top + height, 8 + i * width : 8 + (i + 1) * width] for i in range(2)]
    assert panels[0].std() > 10, 'the image is not there'
    drawn = np.abs(panels[0] - panels[1]).sum(2) > 15
    label_file = first.parents[2] / 'annotations/val' / f'{first.stem}.png'
    labels = np.asarray(Image.open(label_file)).repeat(2, 0).repeat(2, 1)
    objects = labels >= 2
    assert drawn[objects].mean() > 0.9
    if task.owner == 'mmdet':
        assert drawn[labels == 1].mean() < 0.2


def test_tta(task, trained, repo, data_options, tmp_path):
    command = [str(repo / task.config), checkpoint(trained, task, 2), '--work-dir', str(tmp_path)]
    command += ['--tta', '--cfg-options', *data_options]
    augmented = run_test(command)
    assert np.isfinite(augmented[task.metrics[0]])
    # With the image itself as the one augmentation, the plain metrics come out.
    cfg = Config.fromfile(repo / task.config)
    cfg.merge_from_dict(dict(option.split('=') for option in data_options))
    if task.owner != 'mmseg':
        complete = complete_for_detection if task.owner == 'mmdet' else complete_for_classification
        complete(cfg)
        cfg.tta_pipeline[-1].transforms[0] = [dict(type='RandomFlip', prob=0.0)]
    else:
        cfg.tta_pipeline[-1].transforms[0] = [dict(type='Resize', scale_factor=1.0)]
        cfg.tta_pipeline[-1].transforms[1] = [dict(type='RandomFlip', prob=0.0)]
    cfg.dump(tmp_path / 'same.py')
    metrics = run_test([str(tmp_path / 'same.py'), *command[1:4], '--tta'])
    logged = scalars(trained)[0][-1]
    assert metrics[task.metrics[0]] == pytest.approx(logged[task.metrics[0]], abs=1e-3)


def test_a_checkpoint_of_another_delivery_is_not_tested(
    task, trained, repo, data_options, tmp_path
):
    command = [str(repo / task.config), checkpoint(trained, task, 2), '--work-dir', str(tmp_path)]
    command += ['--cfg-options', *data_options]
    misfit = '.pth does not fit the model of the config: unexpected key: backbone.pe_delivery.*'
    for delivery in ('default', 'lape'):
        with pytest.raises(ValueError, match=misfit + 'Give the config that it was trained with'):
            run_test([*command, f'model.backbone.pe_delivery={delivery}'])


@pytest.mark.parametrize('missing', ['ann_file', 'config', 'checkpoint'])
def test_what_is_missing_is_named(task, trained, repo, data_options, tmp_path, missing):
    config, weights = str(repo / task.config), checkpoint(trained, task, 2)
    options = list(data_options)
    if missing == 'ann_file':
        options.append('test_dataloader.dataset.ann_file=annotations/nowhere.json')
        message = 'test_dataloader.dataset.ann_file points to .*nowhere.json'
    elif missing == 'config':
        config, message = 'configs/nowhere.py', 'configs/nowhere.py does not exist'
    else:
        weights, message = str(tmp_path / 'nowhere.pth'), 'nowhere.pth does not exist'
    with pytest.raises(FileNotFoundError, match=message):
        run_test([config, weights, '--work-dir', str(tmp_path), '--cfg-options', *options])


def test_a_class_count_that_does_not_fit_stops_training(task, repo, data_options, tmp_path):
    if task.owner == 'mmdet':
        change = 'model.roi_head.bbox_head.num_classes=80'
        message = r'model.roi_head.bbox_head.num_classes=80.*5 classes.*set num_classes=5'
    elif task.owner == 'mmseg':
        change = 'model.decode_head.num_classes=150'
        message = r'model.decode_head.num_classes=150.*6 classes.*set num_classes=6'
    else:
        change = 'model.head.num_classes=100'
        message = r'model.head.num_classes=100.*10 classes.*set num_classes=10'
    with pytest.raises(ValueError, match=message):
        run_train(
            [str(repo / task.config), '--work-dir', str(tmp_path), '--cfg-options']
            + [*task.options, *data_options, change]
        )


def test_class_names_that_the_annotations_lack_stop_training(task, repo, data_options, tmp_path):
    if task.owner != 'mmdet':
        pytest.skip('there are names of classes in annotations of detection alone')
    names = 'train_dataloader.dataset.metainfo.classes="(ball,box,cone,star,banana)"'
    with pytest.raises(ValueError, match='no category banana'):
        run_train(
            [str(repo / task.config), '--work-dir', str(tmp_path)]
            + ['--cfg-options', *data_options, names.replace('"', '')]
        )

"""Which checkpoint a run starts from, and that none of them runs code."""

import argparse
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmpvg.checkpoints import RefusedFileError, load_pth
from mmpvg.engine.run_checkpoints import (
    latest_checkpoint,
    read_checkpoints_safely,
    resume_from,
    resume_from_latest,
)


@pytest.fixture
def safely(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    read_checkpoints_safely()
    return CheckpointLoader.load_checkpoint


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_runs_nothing(safely, tmp_path):
    done = tmp_path / 'done'
    torch.save(dict(state_dict={}, meta=Malice(done)), tmp_path / 'evil.pth')
    with pytest.raises(RefusedFileError, match=r'evil.pth.*mkdir.*nothing was run'):
        safely(str(tmp_path / 'evil.pth'), map_location='cpu')
    assert not done.exists()
    # The test can fail: mmengine's own way would have run it.
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert done.exists()


def test_the_config_in_a_checkpoint_is_not_evaluated(safely, tiny_run, tmp_path):
    run = tiny_run(tmp_path, epochs=1)
    run.train()
    path = tmp_path / 'epoch_1.pth'
    content = torch.load(path, weights_only=False)
    content['meta']['config'] = f'import os\nos.mkdir({str(tmp_path / "done")!r})'
    torch.save(content, path)
    resumed = tiny_run(tmp_path, epochs=2)
    resumed._resume = True
    resumed.train()
    assert resumed.epoch == 2 and not (tmp_path / 'done').exists()


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        return all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        return all(same(a, b) for a, b in zip(one, other))
    if isinstance(one, HistoryBuffer):
        names = ('max_length', '_log_history', '_count_history')
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


def test_nothing_that_a_run_goes_on_with_is_lost(safely, tiny_run, tmp_path):
    tiny_run(tmp_path, epochs=2).train()
    path = str(tmp_path / 'epoch_2.pth')
    found = safely(path, map_location='cpu')
    assert same(found, torch.load(path, weights_only=False))
    scalars = found['message_hub']['log_scalars']
    assert isinstance(scalars['train/loss'], HistoryBuffer)
    assert np.isfinite(scalars['train/loss'].statistics('mean'))
    assert all(callable(f) for f in HistoryBuffer._statistics_methods.values())


def test_the_state_of_every_scheduler_and_optimizer_is_read(safely, tiny_run, tmp_path):
    run = tiny_run(tmp_path, epochs=2)
    schedulers = ['MultiStepLR', 'LinearLR', 'CosineAnnealingLR', 'PolyLR', 'StepLR']
    extra = dict(MultiStepLR=dict(milestones=[1, 1, 2]), StepLR=dict(step_size=1))
    extra['CosineAnnealingLR'] = dict(T_max=2)
    run.param_schedulers = [dict(type=name, **extra.get(name, {})) for name in schedulers]
    run.optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.1, amsgrad=True))
    run.train()
    path = str(tmp_path / 'epoch_2.pth')
    read_checkpoints_safely(wholly=True)
    assert same(safely(path), torch.load(path, weights_only=False))


def test_a_run_does_not_go_on_from_a_part(safely, tmp_path):
    content = dict(state_dict={}, args=argparse.Namespace(lr=1), meta={})
    torch.save(content, tmp_path / 'a.pth')
    assert safely(str(tmp_path / 'a.pth'))['state_dict'] == {}
    read_checkpoints_safely(wholly=True)
    with pytest.raises(RefusedFileError, match='cannot resume.*argparse.Namespace.*load_from='):
        safely(str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('core', ['numpy.core', 'numpy._core'])
def test_numpy_of_either_version(safely, tmp_path, core):
    """NumPy 2 has moved what pickles name; both names are read."""
    values = dict(array=np.arange(6.0).reshape(2, 3), scalar=np.float64(1.5))
    torch.save(values, tmp_path / 'ours.pth')
    with (
        zipfile.ZipFile(tmp_path / 'ours.pth') as ours,
        zipfile.ZipFile(tmp_path / 'theirs.pth', 'w') as theirs,
    ):
        for name in ours.namelist():
            content = ours.read(name)
            for written in (b'numpy.core', b'numpy._core'):
                content = content.replace(written + b'.multiarray', core.encode() + b'.multiarray')
            theirs.writestr(name, content)
    assert same(load_pth(tmp_path / 'theirs.pth', run_state=True), values)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tiny_run):
    folder = tmp_path_factory.mktemp('trained') / 'run'
    tiny_run(folder, epochs=3).train()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / 'run')
    (tmp_path / 'run/last_checkpoint').write_text(str(tmp_path / 'run/epoch_3.pth'))
    return tmp_path / 'run'


def leave_weights(path, *removed):
    content = torch.load(path, weights_only=False)
    for key in removed or ('optimizer', 'param_schedulers'):
        content.pop(key, None)
    torch.save(content, path.with_name('best_score_epoch_3.pth'))


def flip_a_bit(path):
    """In a tensor: the file is a zip archive as before, and torch reads it."""
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=False)['state_dict']['layer.weight']
    content[content.index(weight.numpy().tobytes()) + 3] ^= 0x40
    path.write_bytes(content)
    assert torch.load(path, weights_only=False)


def test_the_latest_is_found(folder):
    assert latest_checkpoint(folder) == str(folder / 'epoch_3.pth')


def test_in_a_folder_that_was_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / 'elsewhere')
    assert latest_checkpoint(tmp_path / 'elsewhere') == str(tmp_path / 'elsewhere/epoch_3.pth')


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'gone', 'a bit'])
def test_a_damaged_one_is_passed_over(folder, damage):
    last = folder / 'epoch_3.pth'
    # Newer than epoch_2.pth, but without the state of the optimizer.
    leave_weights(last)
    if damage == 'gone':
        last.unlink()
    elif damage == 'a bit':
        flip_a_bit(last)
    else:
        whole = last.read_bytes()
        last.write_bytes(whole[: len(whole) // 2] if damage == 'truncated' else b'')
    assert latest_checkpoint(folder) == str(folder / 'epoch_2.pth')


@pytest.mark.parametrize(
    'content',
    [
        None,
        b'',
        b'\n',
        b'\xff\x00\xfe' * 9,
        b'a/\0b',
        b'a' * 5000,
        b'no/such/file.pth',
        b'one\ntwo',
    ],
    ids=['gone', 'empty', 'line', 'binary', 'null', 'long', 'unknown', 'lines'],
)
def test_without_last_checkpoint_the_newest_is_found(folder, content):
    leave_weights(folder / 'epoch_3.pth')
    (folder / 'last_checkpoint').unlink()
    if content is not None:
        (folder / 'last_checkpoint').write_bytes(content)
    assert latest_checkpoint(folder) == str(folder / 'epoch_3.pth')


def test_none_is_whole(folder):
    leave_weights(folder / 'epoch_3.pth')
    for path in folder.glob('epoch_*.pth'):
        path.write_bytes(path.read_bytes()[:100])
    for _ in range(2):
        with pytest.raises(ValueError, match='no whole checkpoint.*train from the beginning'):
            latest_checkpoint(folder)
        (folder / 'last_checkpoint').unlink(missing_ok=True)


def test_weights_in_a_folder_without_a_run_are_no_run(folder, tmp_path):
    (tmp_path / 'new').mkdir()
    leave_weights(folder / 'epoch_3.pth', 'optimizer', 'meta', 'message_hub')
    shutil.move(folder / 'best_score_epoch_3.pth', tmp_path / 'new/pretrained.pth')
    assert latest_checkpoint(tmp_path / 'new') is None


def test_nothing_to_resume_leaves_load_from(folder, tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path / 'new'), load_from='weights.pth', resume=True))
    resume_from_latest(cfg)
    assert cfg.load_from == 'weights.pth' and cfg.resume is False
    cfg.work_dir = str(folder)
    resume_from_latest(cfg)
    assert cfg.load_from == str(Path(folder) / 'epoch_3.pth') and cfg.resume is True


def test_a_run_that_is_started_again_goes_on_from_its_own(folder, tiny_run, tmp_path, monkeypatch):
    """``--resume FILE`` of a job that is requeued, in a folder with checkpoints of other runs."""
    file = str(folder / 'epoch_1.pth')

    def chosen():
        cfg = Config(dict(work_dir=str(folder)))
        resume_from(cfg, file)
        assert cfg.resume is True
        return Path(cfg.load_from).name

    assert chosen() == 'epoch_1.pth'
    monkeypatch.setenv('MMPVG_RUN', 'a job')
    assert chosen() == 'epoch_1.pth'
    # The job starts, and is told to end after its first epoch.
    first = tiny_run(folder, epochs=2)
    first._resume, first._load_from = True, file
    first.train()
    assert chosen() == 'epoch_2.pth'
    (folder / 'epoch_2.pth').write_bytes(b'damaged')
    assert chosen() == 'epoch_1.pth'
    monkeypatch.setenv('MMPVG_RUN', 'another job')
    assert chosen() == 'epoch_1.pth'

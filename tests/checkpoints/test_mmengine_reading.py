"""Checkpoints that mmengine reads: nothing in them runs, and nothing of a run is lost."""

import argparse
import os
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import nn

from mmpvg.checkpoints import RefusedFileError, load_pth, mmengine_reading
from mmpvg.checkpoints.mmengine_reading import read_checkpoints_safely
from mmpvg.checkpoints.strict import load_weights


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
    read_checkpoints_safely(resumed=path)
    assert same(safely(path), torch.load(path, weights_only=False))


def test_a_run_does_not_go_on_from_a_part(safely, tmp_path):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict={}, args=argparse.Namespace(lr=1), meta={}), path)
    assert safely(path)['state_dict'] == {}
    read_checkpoints_safely(resumed=path)
    with pytest.raises(RefusedFileError, match='cannot resume.*argparse.Namespace.*load_from='):
        safely(path)


def test_a_part_of_a_resumed_run_starts_from_weights_beside_other_objects(
    safely, tiny_run, tmp_path
):
    """Whole reading is of the file that is resumed, not of what its parts start from."""
    tiny_run(tmp_path, epochs=1).train()
    start = str(tmp_path / 'start.pth')
    weight = torch.full((1, 2), 3.0)
    torch.save(dict(state_dict={'weight': weight}, args=argparse.Namespace(lr=1)), start)
    resumed = tiny_run(tmp_path, epochs=2)
    resumed._resume, resumed._load_from = True, str(tmp_path / 'epoch_1.pth')
    read_checkpoints_safely(resumed=resumed._load_from)
    part = nn.Linear(2, 1, bias=False)
    PretrainedInit(start)(part)
    assert torch.equal(part.weight, weight)
    resumed.train()
    assert resumed.epoch == 2


def test_building_one_thing_leaves_the_process_as_it_was(safely, tmp_path, monkeypatch):
    loaders = {'': object()}
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(loaders))
    model = nn.Linear(2, 1)
    torch.save(dict(state_dict=nn.Linear(2, 1).state_dict()), tmp_path / 'a.pth')
    load_weights(model, tmp_path / 'a.pth')
    assert CheckpointLoader._schemes == loaders


@pytest.mark.parametrize(
    'source',
    ['torchvision://resnet18', 'open-mmlab://resnet50_v1c', 'mmcls://vgg11', 'https://x/a'],
)
def test_every_source_of_mmengine_is_read_so(safely, tmp_path, monkeypatch, source):
    path, fetched = tmp_path / 'a.pth', []
    torch.save(dict(state_dict={'backbone.weight': torch.zeros(1)}, meta=Malice('x')), path)
    monkeypatch.setattr(mmengine_reading, 'download', lambda url: fetched.append(url) or path)
    with pytest.raises(RefusedFileError, match='mkdir.*nothing was run.*the download of https://'):
        safely(source)
    assert fetched[0].startswith('https://') and not path.exists()
    torch.save(dict(state_dict={'backbone.weight': torch.zeros(1)}), path)
    (name,) = safely(source)['state_dict']
    # mmengine takes a backbone out of a classifier.
    assert name == ('weight' if source.startswith('mmcls') else 'backbone.weight')


@pytest.mark.parametrize('source', ['s3://bucket/a.pth', 'petrel://a', 'pavi://a', 'x:s3://a'])
def test_a_source_that_is_not_read_is_named(safely, source):
    with pytest.raises(RefusedFileError, match=f'{source} is not read: only files'):
        safely(source)


def test_an_unknown_name_of_a_zoo(safely):
    with pytest.raises(ValueError, match="torchvision:// has no model 'resnet1'"):
        safely('torchvision://resnet1')


def test_a_truncated_download_is_removed(safely, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    torch.save(dict(state_dict={'weight': torch.arange(999.0)}), tmp_path / 'a.pth')
    whole = (tmp_path / 'a.pth').read_bytes()
    url = (tmp_path / 'a.pth').as_uri()
    (tmp_path / 'a.pth').write_bytes(whole[:2000])
    with pytest.raises(RefusedFileError, match='truncated.*the download of file:.*is removed'):
        safely(url)
    (tmp_path / 'a.pth').write_bytes(whole)
    assert torch.equal(safely(url)['state_dict']['weight'], torch.arange(999.0))


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
    assert same(load_pth(tmp_path / 'theirs.pth'), values)

"""Checkpoints on a small real run: whole files, the order of writing and removing, best ones."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmpvg.engine import CheckpointHook
from mmpvg.utils import whole_file


class Data(Dataset):
    metainfo = {}

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((2,), float(index))


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, x, mode='tensor'):
        out = self.layer(torch.stack(x) if isinstance(x, (list, tuple)) else x)
        return dict(loss=out.square().mean()) if mode == 'loss' else [out]

    def train_step(self, data, optim_wrapper):
        loss = self(data, mode='loss')['loss']
        optim_wrapper.update_params(loss)
        return dict(loss=loss)


class Score(Hook):
    """Gives the scores of a list, one a validation."""

    def __init__(self, scores):
        self.scores = list(scores)


def run(work_dir, epochs=4, hook=None, **kwargs):
    runner = Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2, num_workers=0, dataset=Data(), sampler=dict(type='DefaultSampler')
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(type='mmpvg.CheckpointHook', interval=1, max_keep_ckpts=2, **kwargs)
        ),
        custom_hooks=[] if hook is None else [hook],
        experiment_name=f'{Path(work_dir).name}_{os.urandom(4).hex()}',
        default_scope='mmengine',
    )
    return runner


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth*'))


def test_the_last_ones_are_kept(tmp_path):
    run(tmp_path).train()
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_4.pth')
    whole = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    assert whole['meta']['epoch'] == 4 and 'optimizer' in whole


def test_older_ones_go_after_newer_ones_have_come(tmp_path, monkeypatch):
    seen = []

    def write(path, content):
        seen.append((Path(path).name, names(tmp_path)))
        whole_file.write_whole(path, content)

    monkeypatch.setattr('mmpvg.engine.checkpoint_hook.write_whole', write)
    run(tmp_path).train()
    before = dict(seen)
    assert before['epoch_3.pth'] == ['epoch_1.pth', 'epoch_2.pth']
    assert before['epoch_4.pth'] == ['epoch_2.pth', 'epoch_3.pth']
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']


def test_a_full_disk_costs_no_checkpoint(tmp_path, monkeypatch):
    def write(path, content):
        if Path(path).name == 'epoch_3.pth':
            part = Path(path).with_name(f'epoch_3.pth.{os.getpid()}{whole_file.PART_SUFFIX}')
            part.symlink_to('/dev/full')
        whole_file.write_whole(path, content)

    monkeypatch.setattr('mmpvg.engine.checkpoint_hook.write_whole', write)
    with pytest.raises(OSError, match='epoch_3.pth .*No space left.*is kept'):
        run(tmp_path).train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')
    monkeypatch.undo()
    runner = run(tmp_path)
    runner._resume = True
    runner.train()
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth'] and runner.epoch == 4


def test_what_killed_runs_left_is_cleared(tmp_path):
    (tmp_path / f'epoch_9.pth.123{whole_file.PART_SUFFIX}').write_bytes(b'half')
    run(tmp_path, epochs=1).train()
    assert names(tmp_path) == ['epoch_1.pth']


@pytest.mark.parametrize('scores', [[0.1, 0.2, 0.15, 0.3], [0.5, 0.1, 0.1, 0.1]])
def test_the_best_one_is_kept(tmp_path, scores):
    class Validate(Hook):
        def after_train_epoch(self, runner):
            (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
            # As mmengine counts: the epoch is over when validation ends.
            runner.train_loop._epoch += 1
            hook._save_best_checkpoint(runner, {'score': scores[runner.epoch - 1]})
            runner.train_loop._epoch -= 1

    run(tmp_path, hook=Validate(), save_best='score', rule='greater').train()
    best = 1 + max(range(4), key=lambda index: scores[index])
    kept = [name for name in names(tmp_path) if name.startswith('best')]
    assert kept == [f'best_score_epoch_{best}.pth']


def test_a_store_of_its_own_writes_as_it_does(tmp_path):
    runner = run(tmp_path, backend_args=dict(backend='local'))
    runner.train()
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    assert hook.backend_args == dict(backend='local')
    assert names(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']

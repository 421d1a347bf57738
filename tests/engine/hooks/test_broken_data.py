"""Training on data of which some is broken."""

import pytest
import torch
from mmengine.hooks import Hook

from mmpvg.engine import BrokenDataHook


@pytest.fixture
def run(tiny_run):
    class Broken(tiny_run.data):
        def __getitem__(self, index):
            if index + self.first in self.bad:
                raise OSError('truncated')
            return super().__getitem__(index)

        def get_data_info(self, index):
            return dict(img_path=f'{index + self.first}.jpg')

    def build(work_dir, bad, hooks=(), limit=100, workers=0, loop='EpochBasedTrainLoop', **kwargs):
        runner = tiny_run(
            work_dir,
            data=Broken(8, bad),
            hooks=[dict(type='mmpvg.BrokenDataHook', limit=limit), *hooks],
            **kwargs,
        )
        runner._train_loop = dict(type=f'mmpvg.{loop}', max_epochs=4)
        runner._train_dataloader['num_workers'] = workers
        runner.said = []
        runner.logger.error = runner.said.append
        return runner

    return build


def weights(runner):
    return torch.cat([p.detach().flatten() for p in runner.model.parameters()])


@pytest.mark.parametrize('workers', [0, 2])
def test_it_goes_on_and_names_each_file_once(run, tmp_path, workers):
    runner = run(tmp_path, bad=[2, 5], workers=workers)
    runner.train()
    assert runner.epoch == 4
    found = [line for line in runner.said if 'is left out' in line]
    assert len(found) == 2 and '2 of at most 100' in found[1] and 'OSError: truncated' in found[0]
    assert {line.split()[0] for line in found} == {'2.jpg', '5.jpg'}
    assert runner.said[-1].startswith('2 broken files were left out')


def test_upstreams_loop_has_it_too(run, tmp_path):
    runner = run(tmp_path, bad=[2])
    runner._train_loop = dict(type='EpochBasedTrainLoop', max_epochs=2)
    runner.train()
    assert runner.epoch == 2 and any('2.jpg' in line for line in runner.said)


def test_workers_and_a_resume_change_nothing(run, tmp_path):
    class Stop(Hook):
        def after_train_epoch(self, runner):
            if runner.epoch == 2:
                raise InterruptedError

    whole = run(tmp_path / 'whole', bad=[2, 5])
    whole.set_randomness(seed=5)
    whole.train()
    part = run(tmp_path / 'parts', bad=[2, 5], workers=2, hooks=[Stop()])
    part.set_randomness(seed=5)
    with pytest.raises(InterruptedError):
        part.train()
    resumed = run(tmp_path / 'parts', bad=[2, 5], workers=1)
    resumed._resume = True
    resumed.train()
    # What takes the place of a broken image is drawn from the seed, which the checkpoint has.
    assert resumed.epoch == 4 and torch.equal(weights(resumed), weights(whole))


def test_there_is_a_bound(run, tmp_path):
    runner = run(tmp_path, bad=[2, 5], limit=1)
    with pytest.raises(RuntimeError, match='2 files .* at most 1 .*check_dataset.py'):
        runner.train()


@pytest.mark.parametrize('workers', [0, 1])
def test_all_broken(run, tmp_path, workers):
    with pytest.raises(RuntimeError, match=r'10 samples in a row .*jpg: OSError: truncated'):
        run(tmp_path, bad=range(8), workers=workers).train()


@pytest.mark.parametrize('workers', [0, 1])
def test_evaluation_names_the_file_and_takes_no_other(run, tmp_path, workers):
    runner = run(tmp_path, bad=[2], workers=workers)
    loader = dict(runner._train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False))
    for split in ('val', 'test'):
        setattr(runner, f'_{split}_dataloader', loader)
        setattr(runner, f'_{split}_evaluator', [])
        setattr(runner, f'_{split}_loop', dict(type=f'{split.title()}Loop'))
        with pytest.raises(RuntimeError) as raised:
            getattr(runner, split)()
        said = str(raised.value)
        assert '2.jpg cannot be evaluated on (OSError: truncated)' in said
        assert f'check_dataset.py --split {split}' in said


def test_bad_argument():
    with pytest.raises(ValueError, match='got -1'):
        BrokenDataHook(limit=-1)

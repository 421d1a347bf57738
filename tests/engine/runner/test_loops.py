"""Training that a kill, a resume and the number of workers do not change."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmpvg.engine import CheckpointHook

EPOCHS, IMAGES, BATCH = 4, 11, 2
BATCHES_OF_EPOCH = 6


class Augmented(Dataset):
    """Items depend on all three generators."""

    metainfo = {}

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        drawn = [float(index), random.random(), np.random.rand(), torch.rand(()).item()]
        return dict(inputs=torch.tensor(drawn))

    def get_data_info(self, index):
        return dict(width=10 + index % 3, height=11)


class Dropping(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, inputs, mode='tensor'):
        if mode == 'predict':
            return [self.layer.weight.double().sum().item()]
        out = self.dropout(self.layer(torch.stack(list(inputs))))
        # mmdet's samplers draw from torch and from numpy.
        return dict(loss=out.square().mean() * (1 + np.random.rand()))


class Recorder(Hook):
    """Keeps the batches, and stops the run where asked."""

    priority = 'LOWEST'

    def __init__(self, stop_at=None):
        self.stop_at, self.batches, self.indices = stop_at, [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.batches.append(torch.stack(list(data_batch['inputs'])))
        self.indices.append(batch_idx)
        if runner.iter + 1 == self.stop_at:
            raise InterruptedError


class Score(BaseMetric):
    """Of the weights, so that a validation of another state has another score; kills the run."""

    def __init__(self, kill_at=None, scores=None):
        super().__init__()
        self.kill_at, self.scores = kill_at, [] if scores is None else scores

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        self.scores.append(float(results[0]))
        if len(self.scores) == self.kill_at:
            raise InterruptedError
        return dict(score=self.scores[-1])


def validated(runner, loop, metric, begin=1, **checkpoint):
    """With a validation every second epoch, or as many iterations."""
    every = 2 if loop == 'EpochBasedTrainLoop' else 2 * BATCHES_OF_EPOCH
    runner._train_loop.update(val_interval=every, val_begin=begin)
    runner._val_dataloader = dict(batch_size=1, dataset=torch.utils.data.Subset(Augmented(), [0]))
    runner._val_dataloader.update(sampler=dict(type='DefaultSampler', shuffle=False))
    runner._val_loop, runner._val_evaluator = {}, [metric]
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    hook.by_epoch = loop == 'EpochBasedTrainLoop'
    hook.interval, hook.filename_tmpl = every, 'at_{}.pth'
    return runner


def build(work_dir, loop, seed=3, workers=0, recorder=None, accumulate=1, **dataloader):
    by_epoch = loop == 'EpochBasedTrainLoop'
    length = dict(max_epochs=EPOCHS) if by_epoch else dict(max_iters=EPOCHS * BATCHES_OF_EPOCH)
    if not by_epoch:
        dataloader.setdefault('sampler', dict(type='InfiniteSampler', shuffle=True))
    dataloader.setdefault('sampler', dict(type='DefaultSampler', shuffle=True))
    return Runner(
        model=Dropping(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=BATCH, num_workers=workers, dataset=Augmented(), **dataloader
        ),
        train_cfg=dict(type=f'mmpvg.{loop}', **length),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1), accumulative_counts=accumulate),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5),
            dict(type='MultiStepLR', by_epoch=by_epoch, milestones=[2], gamma=0.3),
        ],
        default_hooks=dict(
            # Within epochs too.
            checkpoint=dict(type='mmpvg.CheckpointHook', interval=4, by_epoch=False)
        ),
        custom_hooks=[recorder or Recorder()],
        randomness=dict(seed=seed),
        experiment_name=f'{Path(work_dir).name}_{os.urandom(4).hex()}',
        default_scope='mmengine',
    )


def train(work_dir, loop, stop_at=None, resume=False, **kwargs):
    recorder = Recorder(stop_at)
    runner = build(work_dir, loop, recorder=recorder, **kwargs)
    runner._resume = resume
    try:
        runner.train()
    except InterruptedError:
        assert runner.iter + 1 == stop_at
    return runner, recorder


def weights(runner):
    return torch.cat([p.detach().flatten() for p in runner.model.parameters()])


LOOPS = ['EpochBasedTrainLoop', 'IterBasedTrainLoop']


@pytest.mark.parametrize('stop_at', [5, 8, 9, 19])
@pytest.mark.parametrize('loop', LOOPS)
def test_interrupted_is_uninterrupted(tmp_path, loop, stop_at):
    whole, every = train(tmp_path / 'whole', loop)
    _, first = train(tmp_path / 'parts', loop, stop_at=stop_at)
    # Another seed than the config's, as where the config has none: that of the run counts.
    resumed, rest = train(tmp_path / 'parts', loop, resume=True, seed=None)
    assert torch.equal(weights(resumed), weights(whole))
    kept = stop_at - stop_at % 4
    batches = first.batches[:kept] + rest.batches
    assert len(batches) == EPOCHS * BATCHES_OF_EPOCH
    assert all(torch.equal(one, other) for one, other in zip(batches, every.batches))
    assert first.indices[:kept] + rest.indices == every.indices


@pytest.mark.parametrize('killed_in', [1, 2])
@pytest.mark.parametrize('loop', LOOPS)
def test_a_validation_that_was_missed_is_done_on_resume(tmp_path, loop, killed_in):
    """The first, within the training, or the last, after which nothing else is left to do."""
    whole = validated(build(tmp_path / 'whole', loop), loop, metric := Score())
    whole.train()
    killed = validated(build(tmp_path / 'parts', loop), loop, before := Score(killed_in))
    with pytest.raises(InterruptedError):
        killed.train()
    resumed = validated(build(tmp_path / 'parts', loop), loop, after := Score())
    resumed._resume = True
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))
    assert len(metric.scores) == 2 and metric.scores[0] != metric.scores[1]
    assert before.scores[:-1] + after.scores == metric.scores


@pytest.mark.parametrize('loop', LOOPS)
def test_a_validation_that_is_part_of_the_checkpoint_is_not_repeated(tmp_path, loop):
    first = validated(build(tmp_path, loop), loop, Score())
    (hook,) = (hook for hook in first.hooks if isinstance(hook, CheckpointHook))
    hook.save_best, hook.key_indicators, hook.rules = ['score'], ['score'], ['greater']
    hook.is_better_than = dict(score=lambda new, best: True)
    hook.best_ckpt_path = None
    first.train()
    assert list(tmp_path.glob('best_score_*.pth'))
    resumed = validated(build(tmp_path, loop), loop, after := Score())
    resumed._resume = True
    resumed.train()
    assert after.scores == []


@pytest.mark.parametrize('loop', LOOPS)
@pytest.mark.parametrize(('stop_at', 'expected'), [(8, 2), (14, 1), (20, 1)])
def test_no_validation_where_none_is_due(tmp_path, loop, stop_at, expected):
    """Resumed within an epoch, also of one after which a validation was done."""
    runner = validated(build(tmp_path, loop, recorder=Recorder(stop_at)), loop, Score())
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    hook.by_epoch, hook.interval = False, 2
    with pytest.raises(InterruptedError):
        runner.train()
    resumed = validated(build(tmp_path, loop), loop, after := Score())
    resumed._resume = True
    resumed.train()
    assert len(after.scores) == expected


@pytest.mark.slow
@pytest.mark.parametrize('loop', LOOPS)
def test_the_number_of_workers_changes_nothing(tmp_path, loop):
    runs = [
        train(tmp_path / '0', loop),
        train(tmp_path / '1', loop, workers=1),
        train(tmp_path / '3', loop, workers=3, persistent_workers=True),
    ]
    assert all(torch.equal(weights(run), weights(runs[0][0])) for run, _ in runs)
    for _, recorder in runs:
        assert all(torch.equal(a, b) for a, b in zip(recorder.batches, runs[0][1].batches))


@pytest.mark.slow
@pytest.mark.parametrize('loop', LOOPS)
def test_workers_resume_too(tmp_path, loop):
    whole, _ = train(tmp_path / 'whole', loop, workers=2, persistent_workers=True)
    train(tmp_path / 'parts', loop, stop_at=14, workers=2, persistent_workers=True)
    resumed, _ = train(
        tmp_path / 'parts', loop, resume=True, workers=2, persistent_workers=True, seed=None
    )
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize('loop', LOOPS)
def test_epochs_batches_and_seeds_differ(tmp_path, loop):
    _, one = train(tmp_path / 'one', loop)
    _, other = train(tmp_path / 'other', loop, seed=4)
    drawn = torch.cat([batch[:, 1:].flatten() for batch in one.batches + other.batches])
    assert len(drawn.unique()) == len(drawn)
    epochs = torch.cat([batch[:, 0] for batch in one.batches])
    if loop == 'EpochBasedTrainLoop':
        epochs = epochs.reshape(EPOCHS, IMAGES + IMAGES % BATCH - 1).tolist()
        assert all(sorted(epoch) == list(range(IMAGES)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == EPOCHS
    else:
        assert sorted(epochs[:IMAGES].tolist()) == list(range(IMAGES))


def test_a_sampler_that_ends_goes_on_with_its_next_epoch(tmp_path):
    kwargs = dict(sampler=dict(type='DefaultSampler', shuffle=True))
    whole, every = train(tmp_path / 'whole', 'IterBasedTrainLoop', **kwargs)
    _, epochs = train(tmp_path / 'epochs', 'EpochBasedTrainLoop', **kwargs)
    assert all(torch.equal(a[:, 0], b[:, 0]) for a, b in zip(every.batches, epochs.batches))
    train(tmp_path / 'parts', 'IterBasedTrainLoop', stop_at=14, **kwargs)
    resumed, _ = train(tmp_path / 'parts', 'IterBasedTrainLoop', resume=True, **kwargs)
    assert torch.equal(weights(resumed), weights(whole))


def test_other_batch_samplers_and_a_dropped_last_batch(tmp_path):
    pytest.importorskip('mmdet.datasets.samplers', reason='needs mmdet')
    loop = 'EpochBasedTrainLoop'
    ratio = dict(batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'))
    whole, every = train(tmp_path / 'whole', loop, **ratio)
    # Images of one shape lie together, so that nothing is padded.
    assert all(len(set((batch[:, 0] % 3 < 1).tolist())) == 1 for batch in every.batches[:4])
    train(tmp_path / 'parts', loop, stop_at=9, **ratio)
    resumed, _ = train(tmp_path / 'parts', loop, resume=True, **ratio)
    assert torch.equal(weights(resumed), weights(whole))
    _, full = train(tmp_path / 'full', loop, drop_last=True)
    assert len(full.batches) == EPOCHS * (IMAGES // BATCH)
    assert all(len(batch) == BATCH for batch in full.batches)


def test_gradients_are_accumulated_over_a_resume(tmp_path):
    # Two iterations a step, and checkpoints after whole steps.
    whole, _ = train(tmp_path / 'whole', 'IterBasedTrainLoop', accumulate=2)
    train(tmp_path / 'parts', 'IterBasedTrainLoop', stop_at=11, accumulate=2)
    resumed, _ = train(tmp_path / 'parts', 'IterBasedTrainLoop', resume=True, accumulate=2)
    assert torch.equal(weights(resumed), weights(whole))


def test_another_batch_size_goes_on_at_the_same_share_of_the_epoch(tmp_path):
    loop = 'EpochBasedTrainLoop'
    train(tmp_path, loop, stop_at=9)
    runner = build(tmp_path, loop, recorder=(recorder := Recorder()))
    runner._train_dataloader['batch_size'] = 4
    runner._resume = True
    runner.train()
    # Two of six batches of epoch 2 were done (the checkpoint is of iteration 8), so one of three.
    assert recorder.indices == [1, 2, 0, 1, 2, 0, 1, 2]


def test_too_few_images_for_a_batch(tmp_path):
    data = dict(sampler=dict(type='DefaultSampler', shuffle=True), drop_last=True)
    runner = build(tmp_path, 'IterBasedTrainLoop', **data)
    runner._train_dataloader['batch_size'] = IMAGES + 1
    with pytest.raises(ValueError, match='at least batch_size=12 images'):
        runner.train()


@pytest.mark.parametrize('loop', LOOPS)
def test_a_built_data_loader_is_refused(tmp_path, loop):
    runner = build(tmp_path, loop)
    runner._train_dataloader = torch.utils.data.DataLoader(Augmented())
    with pytest.raises(TypeError, match=f'mmpvg.{loop} needs the config .* not a DataLoader'):
        runner.train()

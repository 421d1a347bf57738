"""A run that gets a signal: its checkpoint, its exit code, and how it goes on."""

import os
import signal
import threading

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mmpvg.engine import PreemptionHook
from mmpvg.engine.hooks.preemption import Preempted


class Send(Hook):
    """The scheduler: it sends a signal to this process in an iteration."""

    def __init__(self, iteration, number=signal.SIGTERM):
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


class SendAgain(Hook):
    """An impatient scheduler: it sends more signals, the first while the checkpoint is written."""

    def before_save_checkpoint(self, runner, checkpoint):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)


class SendInValidation(Hook):
    def __init__(self, at):
        self.at = at

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if (runner.iter, batch_idx) == self.at:
            os.kill(os.getpid(), signal.SIGTERM)


class Mean(BaseMetric):
    """The mean of what the model says, of each validation."""

    def __init__(self):
        super().__init__()
        self.scores, self.images = [], 0

    def process(self, data_batch, data_samples):
        self.results += [float(value) for value in data_samples[0]]
        self.images += 1

    def compute_metrics(self, results):
        self.scores.append(sum(results) / len(results))
        return dict(score=self.scores[-1])


def validated(runner, metric):
    data = runner._train_dataloader['dataset']
    runner._val_dataloader = dict(
        batch_size=1, dataset=data, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    runner._val_loop, runner._val_evaluator = {}, [metric]
    return runner


@pytest.fixture(autouse=True)
def handlers():
    """A process that got a signal takes no more signals, but this one goes on."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(tiny_run):
    def build(work_dir, *hooks, resume=False, **kwargs):
        runner = tiny_run(work_dir, hooks=[*hooks, dict(type='mmpvg.PreemptionHook')], **kwargs)
        runner._train_loop = dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=4)
        runner._resume = resume
        return runner

    return build


def weights(runner):
    return torch.cat([p.detach().flatten() for p in runner.model.parameters()])


@pytest.mark.parametrize('iteration', [1, 2, 3, 7])
def test_it_saves_and_goes_on(run, tmp_path, iteration):
    whole = run(tmp_path / 'whole')
    whole.train()
    with pytest.raises(Preempted) as end:
        run(tmp_path / 'parts', Send(iteration)).train()
    assert end.value.code == 75 and isinstance(end.value, SystemExit)
    saved = tmp_path / 'parts/preempted.pth'
    assert (tmp_path / 'parts/last_checkpoint').read_text() == str(saved)
    assert torch.load(saved, weights_only=False)['meta']['iter'] == iteration
    resumed = run(tmp_path / 'parts', resume=True)
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))
    # A regular one has taken its place.
    assert not saved.exists() and (tmp_path / 'parts/epoch_4.pth').exists()


def test_more_signals_change_nothing(run, tmp_path):
    with pytest.raises(Preempted) as end:
        run(tmp_path, Send(3), SendAgain()).train()
    # The process would end here, with the exit code of these, were they not taken.
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert end.value.code == 75
    assert torch.load(tmp_path / 'preempted.pth', weights_only=False)['meta']['iter'] == 3


def test_a_run_that_ended_gives_signals_back(run, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    run(tmp_path).train()
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.parametrize('at', [(2, 0), (4, 2), (8, 0)])
def test_a_validation_is_left_and_done_on_resume(run, tmp_path, at):
    whole = validated(run(tmp_path / 'whole'), expected := Mean())
    whole.train()
    interrupted = validated(run(tmp_path / 'parts', SendInValidation(at)), before := Mean())
    with pytest.raises(Preempted) as end:
        interrupted.train()
    # Of the four images of a validation, the signal comes at one of them.
    assert before.images == 4 * len(before.scores) + at[1] + 1 and end.value.code == 75
    assert (tmp_path / 'parts/last_checkpoint').read_text().endswith(f'epoch_{at[0] // 2}.pth')
    resumed = validated(run(tmp_path / 'parts', resume=True), after := Mean())
    resumed.train()
    assert before.scores + after.scores == expected.scores and len(expected.scores) == 4
    assert torch.equal(weights(resumed), weights(whole))


def test_a_validation_without_its_checkpoint_is_finished(run, tmp_path):
    runner = run(tmp_path, SendInValidation((2, 0)), checkpoint=dict(interval=2))
    with pytest.raises(Preempted):
        validated(runner, metric := Mean()).train()
    assert len(metric.scores) == 1
    assert torch.load(tmp_path / 'preempted.pth', weights_only=False)['meta']['iter'] == 3


def test_the_last_iteration_ends_the_run(run, tmp_path):
    runner = run(tmp_path, Send(8))
    runner.train()
    assert runner.epoch == 4 and not (tmp_path / 'preempted.pth').exists()


def test_an_accumulated_step_is_finished(run, tmp_path):
    whole = run(tmp_path / 'whole', accumulative_counts=2)
    whole.train()
    with pytest.raises(Preempted):
        run(tmp_path / 'parts', Send(3, signal.SIGUSR1), accumulative_counts=2).train()
    saved = torch.load(tmp_path / 'parts/preempted.pth', weights_only=False)
    assert saved['meta']['iter'] == 4
    resumed = run(tmp_path / 'parts', resume=True, accumulative_counts=2)
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))


def test_it_needs_the_checkpoint_hook(run, tmp_path):
    runner = run(tmp_path, checkpoint=dict(type='CheckpointHook'))
    with pytest.raises(TypeError, match='default_hooks.checkpoint.type='):
        runner.train()


def test_in_another_thread_it_says_that_it_hears_nothing(run, tmp_path, caplog):
    runner = run(tmp_path)
    seen = []
    runner.logger.warning = seen.append
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join()
    assert runner.epoch == 4 and any('main thread' in message for message in seen)


@pytest.mark.parametrize(
    'arguments, message',
    [(dict(signals=['SIGFOO']), "'SIGFOO'.*SIGTERM"), (dict(interval=0), 'got 0')],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PreemptionHook(**arguments)

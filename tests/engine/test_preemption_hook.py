"""A run that is told to end: its checkpoint, its exit code, and how it goes on."""

import os
import signal
import threading

import pytest
import torch
from mmengine.hooks import Hook

from mmpvg.engine import PreemptionHook
from mmpvg.engine.preemption_hook import Preempted


class Tell(Hook):
    """The scheduler: it sends a signal to this process in an iteration."""

    def __init__(self, iteration, number=signal.SIGTERM):
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


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
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as end:
        run(tmp_path / 'parts', Tell(iteration)).train()
    assert end.value.code == 75 and isinstance(end.value, SystemExit)
    assert signal.getsignal(signal.SIGTERM) == handler
    saved = tmp_path / 'parts/preempted.pth'
    assert (tmp_path / 'parts/last_checkpoint').read_text() == str(saved)
    assert torch.load(saved, weights_only=False)['meta']['iter'] == iteration
    resumed = run(tmp_path / 'parts', resume=True)
    resumed.train()
    assert torch.equal(weights(resumed), weights(whole))
    # A regular one has taken its place.
    assert not saved.exists() and (tmp_path / 'parts/epoch_4.pth').exists()


def test_the_last_iteration_ends_the_run(run, tmp_path):
    runner = run(tmp_path, Tell(8))
    runner.train()
    assert runner.epoch == 4 and not (tmp_path / 'preempted.pth').exists()


def test_an_accumulated_step_is_finished(run, tmp_path):
    whole = run(tmp_path / 'whole', accumulative_counts=2)
    whole.train()
    with pytest.raises(Preempted):
        run(tmp_path / 'parts', Tell(3, signal.SIGUSR1), accumulative_counts=2).train()
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

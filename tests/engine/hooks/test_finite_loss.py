"""Losses and gradients that are not finite: named, skipped without a trace, and not for ever."""

from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmpvg.engine import FiniteLossHook


class BadGradient(Hook):
    """The loss is finite, the gradient of a weight is not, in some iterations (from 1 on)."""

    def __init__(self, *iterations, value='nan'):
        self.iterations, self.value = iterations, float(value)

    def before_train(self, runner):
        runner.model.layer.weight.register_hook(
            lambda g: g * self.value if runner.iter + 1 in self.iterations else None
        )


def state(runner):
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


def log_of(work_dir):
    return ''.join(path.read_text() for path in Path(work_dir).glob('*/*.log'))


def test_a_bad_iteration_leaves_no_trace(tiny_run, tmp_path):
    """Training with a bad batch ends where training without that batch does."""
    bad = tiny_run(tmp_path / 'bad', data=tiny_run.data(6, bad=[4]), epochs=1,
                   hooks=[FiniteLossHook()])  # fmt: skip
    bad.train()
    clean = tiny_run(tmp_path / 'clean', data=tiny_run.data(4), epochs=1)
    clean.train()
    expected = state(clean)
    for name, value in state(bad).items():
        if name != 'norm.num_batches_tracked':
            assert torch.equal(value, expected[name]), name
    log = log_of(tmp_path / 'bad')
    assert 'iteration 3 is skipped: loss, loss_square not finite, of 4.jpg, 5.jpg' in log
    assert 'loss_calm' not in log.split('is skipped')[1].splitlines()[0]


@pytest.mark.parametrize('value', ['nan', 'inf'])
def test_a_bad_gradient_leaves_no_trace(tiny_run, tmp_path, value):
    """As above, with a schedule, whose steps are counted."""
    schedule = dict(type='LinearLR', start_factor=0.1, end=2, by_epoch=True)
    bad = tiny_run(tmp_path / 'bad', data=tiny_run.data(6), epochs=1, schedule=schedule,
                   hooks=[BadGradient(3, value=value), FiniteLossHook()])  # fmt: skip
    bad.train()
    clean = tiny_run(tmp_path / 'clean', data=tiny_run.data(4), epochs=1, schedule=schedule)
    clean.train()
    expected = state(clean)
    for name, found in state(bad).items():
        if name != 'norm.num_batches_tracked':
            assert torch.equal(found, expected[name]), name
    log = log_of(tmp_path / 'bad')
    assert 'iteration 3 is skipped: gradients of layer.weight not finite, of 4.jpg, 5.jpg' in log


def test_a_huge_gradient_is_finite(tiny_run, tmp_path):
    """Its norm overflows; clipping takes care of it."""
    runner = tiny_run(
        tmp_path, data=tiny_run.data(2), epochs=1,
        hooks=[BadGradient(1, value=1e30), FiniteLossHook()],
        clip_grad=dict(type='value', clip_value=1.0),
    )  # fmt: skip
    start = runner.model.layer.weight.detach().clone()
    runner.train()
    moved = (runner.model.layer.weight.detach() - start).abs()
    assert torch.allclose(moved, torch.full_like(moved, 0.1)), 'not a step of lr x clip_value'
    assert 'is skipped' not in log_of(tmp_path)


def test_too_many_bad_gradients_stop_training(tiny_run, tmp_path):
    runner = tiny_run(
        tmp_path, data=tiny_run.data(8), epochs=2,
        hooks=[BadGradient(*range(2, 9)), FiniteLossHook(limit=3, window=3)],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match='3 of the last 3 iterations.*layer.weight.*7.jpg'):
        runner.train()
    assert all(value.isfinite().all() for value in state(runner).values())


def test_with_accumulation_a_bad_gradient_costs_the_step(tiny_run, tmp_path):
    """Batches of two, two a step: (0 1)(2 3) | (4 5)(6 7); all images of the step are named."""
    runner = tiny_run(
        tmp_path / 'bad', data=tiny_run.data(8), epochs=1, accumulative_counts=2,
        hooks=[BadGradient(1), FiniteLossHook()],
    )  # fmt: skip
    runner.train()
    clean = tiny_run(
        tmp_path / 'clean', data=tiny_run.data(4, first=4), epochs=1, accumulative_counts=2
    )
    clean.train()
    expected = dict(clean.model.named_parameters())
    for name, value in runner.model.named_parameters():
        assert torch.equal(value, expected[name]), name
    assert 'of 0.jpg, 1.jpg, 2.jpg, 3.jpg' in log_of(tmp_path / 'bad')


@pytest.fixture
def scaled_run(tiny_run, monkeypatch):
    """A run under mmengine's AmpOptimWrapper, whose scaler works on a CPU too."""
    if not hasattr(torch.amp, 'GradScaler'):
        pytest.skip(f'torch {torch.__version__} has a gradient scaler for CUDA alone')
    module = 'mmengine.optim.optimizer.amp_optimizer_wrapper'
    monkeypatch.setattr(f'{module}.is_cuda_available', lambda: True)
    monkeypatch.setattr(f'{module}.GradScaler', partial(torch.amp.GradScaler, 'cpu'))
    return partial(tiny_run, type='AmpOptimWrapper', dtype='bfloat16')


def test_a_loss_scale_that_is_too_large_is_the_scalers(scaled_run, tmp_path):
    runner = scaled_run(
        tmp_path, epochs=2, loss_scale='dynamic',
        hooks=[BadGradient(1, 3, value='inf'), FiniteLossHook(limit=1)],
    )  # fmt: skip
    runner.train()
    assert runner.optim_wrapper.loss_scaler.get_scale() == 65536 / 4
    assert all(value.isfinite().all() for value in state(runner).values())
    assert 'is skipped' not in log_of(tmp_path)


def test_a_gradient_that_is_bad_at_any_scale_stops_training(scaled_run, tmp_path):
    """65536 is halved 16 times to 1."""
    runner = scaled_run(
        tmp_path, epochs=20, loss_scale='dynamic',
        hooks=[BadGradient(*range(1, 41)), FiniteLossHook(limit=3)],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match='iteration 19 is skipped.*loss scale below 1'):
        runner.train()


def test_a_fixed_loss_scale_does_not_adapt(scaled_run, tmp_path):
    runner = scaled_run(
        tmp_path, epochs=2, loss_scale=128.0, hooks=[BadGradient(2), FiniteLossHook()]
    )
    runner.train()
    assert 'iteration 2 is skipped: gradients of layer.weight' in log_of(tmp_path)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 128


def test_without_the_hook_training_ends_with_the_last_good_checkpoint(tiny_run, tmp_path):
    runner = tiny_run(
        tmp_path, data=tiny_run.data(6), epochs=5, checkpoint=dict(max_keep_ckpts=1),
        hooks=[BadGradient(8)],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match='norm.weight .* is not finite, so nothing is saved'):
        runner.train()
    assert state(runner)['layer.weight'].isnan().any(), 'the run was not disturbed'
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_2.pth']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_2.pth')
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in saved.values())


def test_a_good_run_is_what_it_was(tiny_run, tmp_path):
    runners = [
        tiny_run(tmp_path / str(index), hooks=hooks)
        for index, hooks in enumerate(([], [FiniteLossHook()]))
    ]
    for runner in runners:
        runner.train()
    plain, guarded = map(state, runners)
    assert all(torch.equal(plain[name], guarded[name]) for name in plain)
    assert not {'update_params', 'step'} & set(vars(runners[1].optim_wrapper)), (
        'it did not step aside'
    )


def test_with_accumulation_a_bad_last_batch_costs_the_step(tiny_run, tmp_path):
    """Batches of two, two a step: (0 1)(2 3) | (4 5)(6 7)."""
    runner = tiny_run(
        tmp_path / 'bad', data=tiny_run.data(8, bad=[2]), epochs=1, hooks=[FiniteLossHook()],
        accumulative_counts=2,
    )  # fmt: skip
    runner.train()
    clean = tiny_run(
        tmp_path / 'clean', data=tiny_run.data(4, first=4), epochs=1, accumulative_counts=2
    )
    clean.train()
    expected = dict(clean.model.named_parameters())
    for name, value in runner.model.named_parameters():
        assert torch.equal(value, expected[name]), name
    assert runner.optim_wrapper._inner_count == 4


def test_with_accumulation_a_bad_earlier_batch_is_left_out_alone(tiny_run, tmp_path):
    weights = []
    for bad, hooks in (([0], [FiniteLossHook()]), ([], [])):
        runner = tiny_run(
            tmp_path / str(len(weights)), data=tiny_run.data(4, bad=bad), epochs=1, hooks=hooks,
            accumulative_counts=2,
        )  # fmt: skip
        start = runner.model.layer.weight.detach().clone()
        runner.train()
        weights.append(runner.model.layer.weight.detach() - start)
    assert weights[0].isfinite().all() and weights[0].any()
    assert not torch.equal(*weights), 'half of the step is missing'


def test_too_many_stop_training_and_keep_the_checkpoint(tiny_run, tmp_path):
    runner = tiny_run(
        tmp_path, data=tiny_run.data(8, bad=range(2, 8)), epochs=2,
        hooks=[FiniteLossHook(limit=3, window=3)],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match='3 of the last 3 iterations.*7.jpg.*--resume'):
        runner.train()
    runner = tiny_run(
        tmp_path / 'b', data=tiny_run.data(8, bad=[6]), epochs=3,
        hooks=[FiniteLossHook(limit=3, window=12)],
    )  # fmt: skip
    with pytest.raises(RuntimeError, match='3 of the last 12'):
        runner.train()
    saved = torch.load(tmp_path / 'b/epoch_2.pth', weights_only=False)['state_dict']
    assert all(value.isfinite().all() for value in saved.values())


def test_far_between_they_do_not(tiny_run, tmp_path):
    runner = tiny_run(
        tmp_path, data=tiny_run.data(8, bad=[6]), epochs=6,
        hooks=[FiniteLossHook(limit=3, window=8)],
    )  # fmt: skip
    runner.train()
    assert runner.epoch == 6


@pytest.mark.parametrize('limit', [0, 11])
def test_bad_limits_are_named(limit):
    with pytest.raises(ValueError, match=f'limit must be 1 to window=10, got {limit}'):
        FiniteLossHook(limit=limit, window=10)


@pytest.mark.slow
def test_two_processes_skip_together(run_two_processes, tmp_path):
    """The bad image and the bad gradient are one process's; none goes on alone, nor waits."""
    run_two_processes('engine/hooks/finite_loss_worker.py', tmp_path)
    weights = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]
    for name, value in weights[0].items():
        assert value.isfinite().all() and torch.equal(value, weights[1][name]), name
    log = log_of(tmp_path)
    assert 'is skipped: loss, loss_square not finite, of 5.jpg, 7.jpg' in log
    assert 'iteration 3 is skipped: gradients of layer.weight not finite, of 0.jpg, 2.jpg, 1' in log

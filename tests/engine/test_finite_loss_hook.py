"""Losses that are not finite: named, skipped without a trace, and not for ever."""

from pathlib import Path

import pytest
import torch

from mmpvg.engine import FiniteLossHook


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


def test_without_the_hook_all_is_lost(tiny_run, tmp_path):
    runner = tiny_run(tmp_path, data=tiny_run.data(6, bad=[4]), epochs=1)
    runner.train()
    assert state(runner)['layer.weight'].isnan().any()


def test_a_good_run_is_what_it_was(tiny_run, tmp_path):
    runners = [
        tiny_run(tmp_path / str(index), hooks=hooks)
        for index, hooks in enumerate(([], [FiniteLossHook()]))
    ]
    for runner in runners:
        runner.train()
    plain, guarded = map(state, runners)
    assert all(torch.equal(plain[name], guarded[name]) for name in plain)
    assert 'update_params' not in vars(runners[1].optim_wrapper), 'it did not step aside'


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
    """The bad image is one process's; the other must not go on alone, nor wait for ever."""
    run_two_processes('finite_loss_worker.py', tmp_path)
    weights = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]
    for name, value in weights[0].items():
        assert value.isfinite().all() and torch.equal(value, weights[1][name]), name
    assert 'is skipped: loss, loss_square not finite, of 5.jpg, 7.jpg' in log_of(tmp_path)

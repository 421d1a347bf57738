"""Trainings that are killed on purpose; the study itself is benchmarks/robustness/kill.py."""

import pytest
import torch

from benchmarks.robustness.kill_study import Outcome, Trial, _tensors_in, plan_kills, run_kill_study

CONFIG = 'configs/sample/upernet_vit_mpvg_sample.py'


def options(sample_data, *more):
    return [
        f'train_dataloader.dataset.data_root={sample_data}/',
        'train_dataloader.batch_size=2',
        'train_cfg.max_iters=8',
        'default_hooks.checkpoint.interval=2',
        'default_hooks.checkpoint.save_best=None',
        'model.backbone.drop_path_rate=0.2',
        'val_cfg=None',
        'val_dataloader=None',
        'val_evaluator=None',
        *more,
    ]


def test_trials_of_each_kind():
    trials = plan_kills(random=2, sigterm=1)
    assert trials == [Trial('random', 0), Trial('random', 1), Trial('sigterm', 0)]
    with pytest.raises(ValueError, match="'flood'.*random, saving, sigterm"):
        plan_kills(flood=1)


@pytest.mark.slow
def test_a_kill_during_a_checkpoint_and_a_signal(repo, sample_data, tmp_path):
    seen = []
    trials = plan_kills(saving=1, sigterm=1)
    outcomes = run_kill_study(
        trials,
        repo / CONFIG,
        tmp_path,
        options(sample_data),
        jobs=2,
        progress=lambda done, outcome: seen.append((done, outcome)),
    )
    assert [outcome.trial for outcome in outcomes] == trials
    assert [outcome.exit_code for outcome in outcomes] == [-9, 75]
    assert all(outcome.passed for outcome in outcomes), outcomes
    assert sorted(done for done, _ in seen) == [1, 2]
    with pytest.raises(FileExistsError, match='whole is of an earlier study'):
        run_kill_study(plan_kills(saving=1), repo / CONFIG, tmp_path, options(sample_data))


@pytest.mark.slow
def test_the_output_of_a_training_that_fails_is_shown(sample_data, tmp_path):
    wrong = tmp_path / 'nowhere.py'
    with pytest.raises(
        ChildProcessError, match=r'(?s)whole/output.txt failed.*nowhere.py does not exist'
    ):
        run_kill_study(plan_kills(random=1), wrong, tmp_path, options(sample_data))


def outcome(**changes):
    fields = dict(exit_code=-9, half_written=False, whole=True, resumed_at=3, differing=())
    return Outcome(Trial(changes.pop('kind', 'random'), 0), **{**fields, **changes})


def test_what_passes():
    assert outcome().passed
    assert not outcome(whole=False).passed
    assert not outcome(differing=('state_dict.weight',)).passed
    assert outcome(kind='sigterm', exit_code=75).passed
    assert not outcome(kind='sigterm', exit_code=-15).passed


def test_all_tensors_of_a_checkpoint_are_compared():
    content = dict(state_dict=dict(a=torch.ones(1)), optimizer=dict(state={0: [torch.zeros(2)]}))
    assert list(dict(_tensors_in(content))) == ['state_dict.a', 'optimizer.state.0.0']

"""FSDP on two gloo processes: trainings are those of DistributedDataParallel."""

import re

import pytest
import torch
from mmengine.config import Config

from mmpvg.checkpoints.safe_load import load_pth, placeholders_in
from mmpvg.engine.runner.fsdp import use_fsdp


@pytest.fixture(scope='module')
def runs(run_two_processes, tmp_path_factory):
    out = tmp_path_factory.mktemp('fsdp')
    run_two_processes('engine/runner/fsdp_worker.py', out)
    return out


def load(run, name='iter_6.pth'):
    return torch.load(run / name, weights_only=False)


def assert_close(one, other, atol):
    """Of weights and of the optimizer's state; the keys are the same."""
    assert set(one['state_dict']) == set(other['state_dict'])
    for name, value in one['state_dict'].items():
        assert torch.allclose(value, other['state_dict'][name], atol=atol, rtol=0), name
    assert set(one['optimizer']['state']) == set(other['optimizer']['state'])
    for number, state in one['optimizer']['state'].items():
        for name, value in state.items():
            if value is not None:
                wanted = other['optimizer']['state'][number][name]
                assert torch.allclose(value, wanted, atol=atol, rtol=0), (number, name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('found', 'wanted', 'atol'),
    [
        ('fsdp_AdamW', 'ddp_AdamW', 1e-5),
        ('fsdp_SGD', 'ddp_SGD', 1e-6),
        ('fsdp_fsdp', 'fsdp_AdamW', 0),
        ('fsdp_ddp', 'ddp_AdamW', 1e-5),
        ('ddp_fsdp', 'ddp_AdamW', 1e-5),
        ('fsdp_nan', 'ddp_nan', 1e-6),
        # The image is skipped alike, whether its loss or its gradient is bad.
        ('fsdp_gradient', 'ddp_nan', 1e-6),
        ('ddp_gradient', 'ddp_nan', 1e-6),
        ('fsdp_accumulated', 'ddp_accumulated', 1e-6),
        ('signaled', 'fsdp_AdamW', 0),
    ],
)
def test_trainings_end_alike(runs, found, wanted, atol):
    assert_close(load(runs / found), load(runs / wanted), atol)


@pytest.mark.slow
def test_trainings_that_differ_end_otherwise(runs):
    """The comparison above would notice."""
    end = load(runs / 'ddp_SGD')
    for other in (load(runs / 'ddp_nan'), load(runs / 'ddp_SGD', 'iter_3.pth')):
        with pytest.raises(AssertionError):
            assert_close(other, end, 1e-5)


@pytest.mark.slow
def test_the_checkpoint_is_that_of_a_run_without(runs):
    found, wanted = load(runs / 'fsdp_AdamW'), load(runs / 'ddp_AdamW')
    assert set(found) == set(wanted)
    assert list(found['state_dict']) == list(wanted['state_dict'])
    assert not any(set(vars(value)) for value in found['state_dict'].values())
    for name in ('epoch', 'iter', 'seed'):
        assert found['meta'][name] == wanted['meta'][name], name
    groups = [
        [{k: v for k, v in group.items() if k != 'param_names'} for group in groups]
        for groups in (found['optimizer']['param_groups'], wanted['optimizer']['param_groups'])
    ]
    assert groups[0] == groups[1]
    # Decay of matrices alone, although the parts of all are vectors.
    assert {group['weight_decay'] for group in groups[0]} == {0.0, 1.0}
    read = load_pth(str(runs / 'fsdp_AdamW/iter_6.pth'))
    assert not placeholders_in(read)
    assert not list(runs.rglob('*.part'))


@pytest.mark.slow
def test_a_run_that_gets_a_signal_saves_its_place(runs):
    logs = (runs / 'signaled').glob('*/*.log')
    log = max(logs, key=lambda path: path.stat().st_mtime).read_text()
    assert re.search(r'resumed epoch: 0, iter: 4', log)


def test_one_process_cannot_share():
    cfg = Config(dict(launcher='none'))
    with pytest.raises(ValueError, match='tools/dist_train.sh'):
        use_fsdp(cfg)


def test_settings_of_the_strategy_are_kept(monkeypatch):
    monkeypatch.setattr('mmpvg.engine.runner.fsdp.get_device', lambda: 'cuda')
    cfg = Config(
        dict(
            launcher='pytorch',
            strategy=dict(model_wrapper=dict(sharding_strategy='HYBRID_SHARD')),
            optim_wrapper=dict(type='AmpOptimWrapper'),
        )
    )
    use_fsdp(cfg)
    assert cfg.runner_type == 'FlexibleRunner' and cfg.optim_wrapper.use_fsdp
    assert cfg.strategy == dict(
        type='mmpvg.FSDPStrategy', model_wrapper=dict(sharding_strategy='HYBRID_SHARD')
    )

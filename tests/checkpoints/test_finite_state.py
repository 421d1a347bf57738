"""Checkpoints whose values are not finite are not resumed from."""

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmpvg.checkpoints.finite_state import not_finite_in, require_finite
from mmpvg.checkpoints.mmengine_reading import read_checkpoints_safely
from mmpvg.checkpoints.resume import latest_checkpoint


def change(path, change):
    checkpoint = torch.load(path, weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, path)


def spoil_weight(checkpoint):
    checkpoint['state_dict']['layer.weight'][0, 1] = float('nan')


def spoil_average(checkpoint):
    checkpoint['ema_state_dict'] = {'module.layer.weight': torch.tensor([1.0, float('inf')])}


def spoil_moment(checkpoint):
    checkpoint['optimizer']['state'][2]['momentum_buffer'][0, 0] = float('inf')


@pytest.mark.parametrize(
    ('spoil', 'name'),
    [
        (spoil_weight, 'state_dict.layer.weight'),
        (spoil_average, 'ema_state_dict.module.layer.weight'),
        (spoil_moment, 'optimizer.state.2.momentum_buffer'),
    ],
)
def test_a_checkpoint_is_passed_over_or_refused(tiny_run, tmp_path, monkeypatch, spoil, name):
    tiny_run(tmp_path, epochs=2).train()
    last = tmp_path / 'epoch_2.pth'
    assert latest_checkpoint(tmp_path) == str(last)
    change(last, spoil)
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_1.pth')
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    read_checkpoints_safely(resumed=str(last))
    runner = tiny_run(tmp_path / 'resumed')
    with pytest.raises(ValueError, match=f'cannot resume from .*epoch_2.pth: {name} is not finite'):
        runner.resume(str(last))
    change(tmp_path / 'epoch_1.pth', spoil)
    with pytest.raises(ValueError, match='no whole checkpoint to resume from'):
        latest_checkpoint(tmp_path)


def test_a_mask_is_no_fault():
    mask = torch.full((3, 3), float('-inf')).triu(1)
    assert not not_finite_in(dict(state_dict=dict(attn_mask=mask)))
    overflowed = torch.tensor([1.0, float('-inf')])
    assert not_finite_in(dict(state_dict=dict(weight=overflowed))) == ['state_dict.weight']


def test_a_run_is_looked_at_wholly(tiny_run, tmp_path):
    runner = tiny_run(tmp_path, epochs=1)
    runner.train()
    require_finite(runner)
    momentum = runner.optim_wrapper.optimizer.state[runner.model.layer.bias]['momentum_buffer']
    for tensor in (runner.model.norm.running_var, runner.model.layer.bias, momentum):
        kept = tensor.detach().clone()
        tensor.data.fill_(float('nan'))
        with pytest.raises(RuntimeError, match='is not finite, so nothing is saved'):
            require_finite(runner)
        tensor.data.copy_(kept)
    require_finite(runner)

"""A resumed run trains at the learning rates of the checkpoint or of the config, as chosen."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner, Runner

from mmpvg.engine.hooks.resume_schedule import ResumeScheduleHook

# Two groups of different rates.
GROUPS = dict(paramwise_cfg=dict(custom_keys={'norm': dict(lr_mult=0.5)}))


class Rates(Hook):
    """What each iteration trains with."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen[runner.iter] = [
            [group['lr'], group['momentum']] for group in runner.optim_wrapper.param_groups
        ]


@pytest.fixture
def run(tiny_run, tmp_path):
    """Train on 8 images; resumed from a checkpoint if there is one."""

    def train(name, schedule, resume=None, choice=None, lr=0.1, **kwargs):
        optimizer = dict(type='SGD', lr=lr, momentum=0.9)
        settings = {**GROUPS, 'data': tiny_run.data(8), 'optimizer': optimizer, **kwargs}
        rates = Rates()
        runner = tiny_run(tmp_path / name, schedule=schedule, hooks=[rates], **settings)
        if resume is not None:
            runner._resume, runner._load_from = True, str(tmp_path / resume)
            runner.register_hook(ResumeScheduleHook(choice))
        runner.train()
        return rates.seen, runner

    return train


def schedules(end):
    """Of so many epochs of 4 iterations."""
    warmup = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3)
    yield [warmup, dict(type='PolyLR', power=0.9, by_epoch=False, begin=3, end=4 * end)]
    yield [warmup, dict(type='MultiStepLR', milestones=[1, end - 1], end=end)]
    yield [
        warmup,
        dict(type='CosineAnnealingLR', T_max=end, end=end, convert_to_iter_based=True),
        dict(type='CosineAnnealingMomentum', T_max=4 * end, end=4 * end, by_epoch=False),
    ]
    yield [dict(type='ExponentialLR', gamma=0.5 + 0.01 * end), warmup]


NAMES = ['poly', 'steps', 'cosine', 'exponential']


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
@pytest.mark.parametrize('number', range(4), ids=NAMES)
def test_a_longer_schedule_is_that_of_a_run_that_was_long_from_the_start(run, number, kind):
    short, long = (list(schedules(end))[number] for end in (3, 6))
    run('short', short, epochs=3, kind=kind)
    wanted, _ = run('long', long, epochs=6, lr=0.05, kind=kind)
    found, _ = run('resumed', long, 'short/epoch_3.pth', 'config', epochs=6, lr=0.05, kind=kind)
    assert found == {iteration: wanted[iteration] for iteration in range(12, 24)}
    assert {rate[0] / found[12][-1][0] for rate in found[12]} == {0.5, 1.0}, 'two groups of rates'


def test_amid_an_epoch_and_with_another_batch(run):
    """The place in the schedule is that of the epochs, not of the iterations that were done."""
    loop = dict(train=dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=6))
    schedule = list(schedules(6))[2]
    halves = dict(checkpoint=dict(interval=6, by_epoch=False))
    run('first', schedule, epochs=6, **loop, **halves)
    wanted, _ = run('whole', schedule, epochs=6, batch_size=4, **loop)
    found, runner = run(
        'second', schedule, 'first/iter_6.pth', 'config', epochs=6, batch_size=4, **loop
    )
    # An epoch and a half were 6 iterations, and are 3.
    assert list(found.values()) == [wanted[iteration] for iteration in range(3, 12)]
    assert runner.epoch == 6


@pytest.mark.parametrize('choice', [None, 'config'])
@pytest.mark.parametrize('number', range(4), ids=NAMES)
def test_a_config_that_is_unchanged_is_resumed_exactly_and_without_a_word(
    run, tmp_path, number, choice
):
    schedule = list(schedules(4))[number]
    wanted, whole = run('whole', schedule)
    found, resumed = run('resumed', schedule, 'whole/epoch_2.pth', choice)
    assert found == {iteration: wanted[iteration] for iteration in range(8, 16)}
    expected = whole.model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert 'mmpvg:' not in log_of(tmp_path / 'resumed')


def log_of(folder):
    return ''.join(path.read_text() for path in Path(folder).glob('*/*.log'))


def test_a_changed_config_needs_a_choice(run, tmp_path):
    short, long = (list(schedules(end))[0] for end in (3, 6))
    wanted, _ = run('short', short, epochs=3)
    changed = dict(epochs=6, lr=0.05)
    differing = r'lr 0.1 \(config: 0.05\), param_scheduler.1.end 12 \(config: 24\)'
    with pytest.raises(ValueError, match=f'differ: {differing}; pass --resume-schedule config'):
        run('resumed', long, 'short/epoch_2.pth', **changed)
    found, _ = run('kept', long, 'short/epoch_2.pth', 'checkpoint', **changed)
    assert {i: found[i] for i in range(8, 12)} == {i: wanted[i] for i in range(8, 12)}
    assert 'are kept: lr 0.1 (config: 0.05), param_sch' in log_of(tmp_path / 'kept')
    run('taken', long, 'short/epoch_2.pth', 'config', **changed)
    assert 'from the config in place of the checkpoint: lr 0.1' in log_of(tmp_path / 'taken')


def test_weight_decay_and_one_group_are_compared(run):
    run('first', None, paramwise_cfg=None)
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)
    with pytest.raises(ValueError, match=r'differ: weight_decay 0 \(config: 0.01\); pass'):
        run('second', None, 'first/epoch_2.pth', paramwise_cfg=None, optimizer=optimizer)


@pytest.mark.parametrize('choice', [None, 'checkpoint'])
def test_a_schedule_that_is_over_is_not_extended(run, choice):
    schedule = dict(type='PolyLR', power=1.0, by_epoch=True, end=4)
    run('short', schedule)
    with pytest.raises(
        ValueError, match='iteration 24, but .* ended at 16 with a learning rate of 0'
    ):
        run('resumed', schedule, 'short/epoch_4.pth', choice, epochs=6)


def test_an_end_at_rate_0_that_was_planned_is_resumed(run):
    schedule = dict(type='PolyLR', power=1.0, by_epoch=False, end=4)
    run('whole', schedule)
    found, _ = run('resumed', schedule, 'whole/epoch_2.pth')
    assert sorted(found) == list(range(8, 16))


@pytest.mark.parametrize('choice', [None, 'config', 'checkpoint'])
def test_what_does_not_fit_is_refused(run, tmp_path, choice):
    schedule = list(schedules(4))[0]
    run('first', schedule)
    fix = '.*--cfg-options load_from=FILE without --resume'
    with pytest.raises(ValueError, match='other optimizer than AdamW: .* momentum, nesterov' + fix):
        run('other', schedule, 'first/epoch_2.pth', choice, optimizer=dict(type='AdamW', lr=0.1))
    fix = '.*--cfg-options load_from='
    with pytest.raises(ValueError, match='4 parameters in 4 groups in place of 4 in 1' + fix):
        run('other', schedule, 'first/epoch_2.pth', choice, paramwise_cfg=None)
    checkpoint = torch.load(tmp_path / 'first/epoch_2.pth', weights_only=False)
    checkpoint['state_dict']['layer.weight'] = torch.zeros(1, 3)
    torch.save(checkpoint, tmp_path / 'first/other.pth')
    shapes = r'layer.weight \(1, 3\) in place of \(1, 2\)'
    with pytest.raises(ValueError, match=shapes + fix):
        run('other', schedule, 'first/other.pth', choice)


def test_schedules_of_other_kinds(run):
    run('first', list(schedules(4))[0])
    other = list(schedules(4))[2]
    with pytest.raises(ValueError, match=r'2 schedulers \(config: 3\); pass --resume-schedule con'):
        run('other', other, 'first/epoch_2.pth', 'checkpoint')
    wanted, _ = run('whole', other)
    found, _ = run('other', other, 'first/epoch_2.pth', 'config')
    assert found == {iteration: wanted[iteration] for iteration in range(8, 16)}
    with pytest.raises(ValueError, match=r'another scheduler than param_scheduler.1 \(.*T_max'):
        run('other', other[:2], 'first/epoch_2.pth')


def test_a_schedule_that_depends_on_metrics_is_not_moved(run):
    schedule = dict(type='ReduceOnPlateauLR', monitor='score', rule='greater')
    run('first', schedule)
    with pytest.raises(ValueError, match='cannot move ReduceOnPlateauLR forward'):
        run('second', schedule, 'first/epoch_2.pth', 'config', lr=0.05)

"""Logs of runs: resumes joined, validations in their place, cut lines passed over."""

import csv
import json
from functools import partial

import pytest

from mmpvg.logs.run_logs import Curve, read_run_logs


def write(work_dir, stamp, *lines):
    folder = work_dir / stamp / 'vis_data'
    folder.mkdir(parents=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / 'scalars.json').write_text('\n'.join(texts) + '\n')


def by_epoch(iteration, loss):
    return dict(
        lr=0.1, loss=loss, time=1.0, epoch=(iteration + 1) // 2, iter=iteration, step=iteration
    )


def test_a_training_by_iterations(tmp_path):
    write(
        tmp_path,
        '1',
        dict(lr=0.1, loss=3.0, time=1.0, memory=5, iter=10, step=10),
        dict(lr=0.2, loss=2.0, time=1.0, memory=5, iter=20, step=20),
        dict(mIoU=40.0, time=1.0, step=20),
    )
    assert read_run_logs(tmp_path) == {
        'lr': Curve([10, 20], [0.1, 0.2]),
        'loss': Curve([10, 20], [3.0, 2.0]),
        'mIoU': Curve([20], [40.0], measured=True),
    }
    assert read_run_logs(tmp_path / '1/vis_data/scalars.json')['mIoU'].values == [40.0]


def test_validations_of_epochs_are_at_their_iteration(tmp_path):
    rows = [by_epoch(i, 5.0 - i) for i in (1, 2, 3, 4)]
    write(tmp_path, '1', *rows[:2], dict(mAP=0.1, step=1), *rows[2:], dict(mAP=0.2, step=2))
    assert read_run_logs(tmp_path)['mAP'] == Curve([2, 4], [0.1, 0.2], True)


def test_resumes_are_joined(tmp_path):
    """Killed in iteration 5, resumed from the checkpoint of iteration 2."""
    rows = [by_epoch(i, float(i)) for i in (1, 2, 3, 4)]
    validations = [dict(mAP=0.1, step=1), dict(mAP=0.2, step=2)]
    write(tmp_path, '1', *rows[:2], validations[0], *rows[2:], validations[1], '{"loss": 5.0, "st')
    again = [by_epoch(i, 10.0 + i) for i in (3, 4, 5, 6)]
    write(tmp_path, '2', *again[:2], dict(mAP=0.3, step=2), *again[2:])
    curves = read_run_logs(tmp_path)
    assert curves['loss'] == Curve([1, 2, 3, 4, 5, 6], [1.0, 2.0, 13.0, 14.0, 15.0, 16.0])
    assert curves['mAP'] == Curve([2, 4], [0.1, 0.3], True)


def test_means():
    curve = Curve([1, 2, 3, 4], [4.0, 2.0, 6.0, 1.0])
    assert curve.smoothed(1) == curve.values
    assert curve.smoothed(3) == [3.0, 4.0, 3.0, 3.5]
    assert curve.smoothed(2) == [3.0, 4.0, 3.5, 1.0]
    assert curve.smoothed(99) == [3.25] * 4


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no log of mmengine'):
        read_run_logs(tmp_path)
    write(tmp_path, '1', '')
    with pytest.raises(ValueError, match='a log without a curve'):
        read_run_logs(tmp_path)


def test_the_tool(run_tool, tmp_path, capsys):
    tool = partial(run_tool, 'analysis_tools/plot_logs.py')
    rows = [by_epoch(i, 5.0 - i) for i in (1, 2)]
    write(tmp_path / 'a', '1', *rows, dict(mAP=0.1, mAP_l=-1.0, only_here=1.0, step=1))
    write(tmp_path / 'b', '1', *rows, dict(mAP=0.4, mAP_l=-1.0, step=1))
    out = tmp_path / 'deep/curves.png'
    tool(tmp_path / 'a', tmp_path / 'b', '--out', out, '--smooth', 2)
    assert out.stat().st_size > 10_000
    with out.with_suffix('.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['key'] for row in rows] == ['loss', 'loss', 'lr', 'lr', 'mAP'] * 2
    assert rows[-1] == dict(run='b', key='mAP', iteration='2', value='0.4')
    tool(tmp_path / 'a', '--out', out, '--keys', 'only_here')
    assert 'only_here 1' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        tool(tmp_path / 'a', '--keys', 'mIoU')
    assert 'no run logged mIoU; there are lr, loss, mAP' in capsys.readouterr().err

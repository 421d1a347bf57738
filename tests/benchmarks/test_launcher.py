"""Processes of trainings, several at a time."""

import sys

import pytest

from benchmarks.launcher import Process, hook_option, in_parallel, training_command


def test_output_and_exit_code(tmp_path):
    command = [sys.executable, '-c', 'import os, torch; print(torch.get_num_threads())']
    process = Process(command, tmp_path / 'new/output.txt', threads=1)
    process.run()
    process.run()
    assert process.log.read_text() == '1\n1\n'
    failing = Process([sys.executable, '-c', 'raise SystemExit("why")'], tmp_path / 'failed.txt')
    with pytest.raises(ChildProcessError, match=r'failed.txt failed with exit code 1:\nwhy'):
        failing.run()


def test_commands():
    command = list(map(str, training_command('c.py', 'runs/a', ['x=1'], '--resume')))
    assert command[1].endswith('tools/train.py')
    assert command[2:] == ['c.py', '--work-dir', 'runs/a', '--resume', '--cfg-options', 'x=1']


def test_results_are_in_the_order_of_the_items():
    seen = []
    found = in_parallel(lambda x: x * x, [3, 1, 2], 2, lambda *done: seen.append(done))
    assert list(found.items()) == [(3, 9), (1, 1), (2, 4)]
    assert [number for number, _, _ in seen] == [1, 2, 3]
    assert {(item, result) for _, item, result in seen} == set(found.items())
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda x: 1 // x, [1, 0, 2], 1, lambda *done: None)


def test_hooks_are_found_by_type(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("custom_hooks = [dict(type='A'), dict(type='mmpvg.B', limit=1)]\n")
    assert hook_option(config, 'mmpvg.B', 'limit=3') == 'custom_hooks.1.limit=3'

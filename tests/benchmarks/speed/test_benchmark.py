"""Benchmarks measure what they say; how fast anything is, no test asserts."""

import json
import time

import pytest
import torch
from torch import nn

from benchmarks.speed.__main__ import main
from benchmarks.speed.networks import BENCHMARK_MODELS, difference_to_ours
from benchmarks.speed.plot import draw_benchmark
from benchmarks.speed.targets import TARGETS, Target, import_seconds, measure_targets
from benchmarks.speed.timing import Timing, peak_memory, run_of, time_alternately

ARCH = dict(embed_dims=64, num_layers=4, num_heads=2)


def test_calls_take_turns():
    order = []
    times = time_alternately({name: lambda name=name: order.append(name) for name in 'abc'}, 3)
    # Two calls of the timer's own before each that is timed.
    assert ''.join(order[2::3]) == 'abc' + 'cba' + 'abc'
    assert order[::3] == order[1::3] == order[2::3]
    assert all(len(timing.seconds) == 3 for timing in times.values())


def test_times_are_those_of_the_calls():
    # Sleeping takes its time at least, however busy the machine is.
    times = time_alternately({'short': lambda: time.sleep(0.01), 'none': lambda: None}, rounds=3)
    assert all(seconds >= 0.01 for seconds in times['short'].seconds)


def test_statistics():
    one, other = Timing((2.0, 4.0, 12.0)), Timing((1.0, 4.0, 3.0))
    assert one.median == 4 and one.ratio(other) == 2
    assert one.spread == pytest.approx((8 - 3) / 2 / 4)
    assert Timing((1.0,)).spread == 0


def test_peak_memory_of_known_tensors():
    def call():
        first = torch.empty(1_000_000)
        second = torch.empty(500_000)
        del first
        third = torch.empty(250_000)
        return second, third

    assert peak_memory(call) == pytest.approx(6_000_000, rel=0.01)
    assert peak_memory(lambda: None) == 0


def test_memory_of_a_training_step_holds_what_backward_needs():
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Sigmoid()) for _ in range(8)))
    images = torch.randn(1, 3, 2048, 64)
    inference, training = (
        peak_memory(run_of(layers, images, mode)) for mode in ('inference', 'training')
    )
    each = images.numel() * 4
    # What enters a layer and what leaves it, and at most one more between.
    assert 2 * each <= inference < 3.5 * each
    # Each sigmoid keeps its output.
    assert 8 * each < training < 14 * each


def test_modes():
    network = nn.Dropout(0.5)
    seen = []
    network.register_forward_hook(
        lambda module, args, output: seen.append((module.training, torch.is_grad_enabled()))
    )
    weight = nn.Linear(4, 4)
    both = nn.Sequential(weight, network)
    run_of(both, torch.randn(1, 1, 4, 4), 'inference')()
    assert weight.weight.grad is None
    run_of(both, torch.randn(1, 1, 4, 4), 'training')()
    assert seen == [(False, False), (True, True)] and weight.weight.grad is not None
    with pytest.raises(ValueError, match="unknown mode 'test'"):
        run_of(both, torch.zeros(1), 'test')


def test_autocast_is_used():
    outputs = []
    network = nn.Linear(4, 4)
    network.register_forward_hook(lambda module, args, output: outputs.append(output.dtype))
    run_of(network, torch.randn(1, 1, 4, 4), 'inference', torch.bfloat16)()
    assert outputs == [torch.bfloat16]


@pytest.mark.parametrize('name', [n for n, model in BENCHMARK_MODELS.items() if model.same_as_vit])
def test_plain_vits_give_what_ours_gives(name):
    assert difference_to_ours(name, 'deit-tiny') < 1e-4


@pytest.mark.parametrize('name', BENCHMARK_MODELS)
def test_every_network_runs_at_any_size(name):
    network = BENCHMARK_MODELS[name].build('deit-tiny')
    images = torch.randn(1, 3, 224, 320)
    run_of(network, images, 'inference')()
    unused = set()
    run_of(network, images, 'training')()
    for parameter_name, parameter in network.named_parameters():
        if parameter.grad is None:
            unused.add(parameter_name)
    # What others leave unused is theirs.
    if 'ours' in BENCHMARK_MODELS[name].what:
        assert not unused


def test_targets():
    target = Target('mpvg', 'timm', 'inference', (64, 96), 1.0)
    assert target.what == 'mpvg / timm, inference time, 64x96'
    assert target.met(1.004) and not target.met(1.02)
    least = Target('mpvg', 'mpvg', 'inference', (64, 64), 4.0, True, size_below=(32, 32))
    assert least.what == 'mpvg / mpvg at 32x32, inference time, 64x64'
    assert least.met(4.1) and not least.met(3.9)
    memory = Target('mpvg', 'mpvg', 'training', (64, 64), 4.0, memory=True, size_below=(32, 32))
    timed, sized = measure_targets(
        (target, memory), rounds=2, progress=lambda what: None, seconds=0.1
    )
    assert timed.ratio > 0 and timed.above > 0 < timed.below
    assert sized.ratio == sized.above / sized.below > 1 and sized.above > 1e6
    assert {name for t in TARGETS for name in (t.above, t.below)} <= set(BENCHMARK_MODELS)


def test_import_is_timed_and_brings_no_upstream():
    mmengine, mmpvg, imported = import_seconds(rounds=1)
    assert mmengine > 0 < mmpvg and imported == []


def test_the_plot(tmp_path):
    rows = [
        dict(network=name, mode=mode, pixels=side**2, size=f'{side}x{side}', ms=side / f, mib=side)
        for name, f in (('timm', 1), ('mpvg', 2))
        for mode in ('inference', 'training')
        for side in (224, 512)
    ]
    assert draw_benchmark(rows, tmp_path / 'deep' / 'plot.png').stat().st_size > 10_000


@pytest.fixture
def tool(monkeypatch, tmp_path, capsys):
    """Runs the script in this process, and gives what it prints."""

    def run(*arguments):
        command = ['benchmark.py', '--rounds', '1', '--out', str(tmp_path), *arguments]
        monkeypatch.setattr('sys.argv', command)
        main()
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_the_tool_compares_networks(tool, tmp_path):
    out = tool('--models', 'timm', 'mpvg', '--sizes', '32x48', '64x48')
    assert 'timm: the same as ours at 224x224' in out
    rows = [line.split(' | ') for line in out.splitlines() if line.startswith('| ')][1:]
    assert len(rows) == 2 * 2 * 2 and {row[2] for row in rows} == {'timm', 'mpvg'}
    assert all(float(row[4]) == 1 for row in rows if row[2] == 'timm')
    assert (tmp_path / 'benchmark.png').exists()
    assert len(json.loads((tmp_path / 'benchmark.json').read_text())) == 8


def test_the_tool_computes_the_floor(tool):
    out = tool('--floor', '--models', 'timm', 'default', '--sizes', '224x224')
    timm, ours = (line.split(' | ') for line in out.splitlines() if '224x224' in line)
    # 1.26 G multiply-adds in DeiT-Ti's paper, less the class token; operations are twice that.
    assert float(ours[2]) == pytest.approx(2.5, abs=0.1)
    assert float(timm[2]) <= float(ours[2])

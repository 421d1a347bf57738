r"""Time and memory of our networks beside those that people run today.

    python -m benchmarks.speed
    python -m benchmarks.speed --device cuda --dtype bfloat16 --compile \
        --batch 8 --sizes 1024x1024 --models timm mpvg mpvg-gab
    python -m benchmarks.speed --targets
    python -m benchmarks.speed --iteration configs/sample/*_vit_mpvg_sample.py
    python -m benchmarks.speed --floor --models timm mpvg mpvg-windows

All networks of a row run in turn in one process, so ratios hold on a machine of varying speed.
Plain ViTs of others are first held against ours with their weights. Prints a Markdown table, and
writes the numbers (JSON) and a plot of the growth with the size. --targets measures the ratios that
this project set itself as targets, on the CPU. --iteration splits a training iteration of configs
into loading, backbone, heads and optimizer. --floor computes the least time of inference:
its operations over the machine's measured matrix rate, its bytes over the measured bandwidth.
"""

import argparse
import dataclasses
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.utils import ProgressBar

from mmpvg.analysis.flops import count_macs
from mmpvg.engine.config.config_model import build_config_model

from .floor import measure_rates, moved_bytes
from .iteration_split import PARTS as ITERATION_PARTS
from .iteration_split import split_iteration
from .networks import BENCHMARK_MODELS, difference_to_ours
from .plot import draw_benchmark
from .targets import TARGETS, import_seconds, measure_targets
from .timing import MODES, peak_memory, run_of, time_alternately

# What float32 sums in another order differ by.
SAME = 1e-4
MODELS = ('timm', 'mmpretrain', 'mmseg', 'default', 'lape', 'pvg', 'mpvg', 'mpvg-windows')


def size(text: str) -> tuple[int, int]:
    height, width = text.split('x')
    return int(height), int(width)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--models', nargs='+', choices=list(BENCHMARK_MODELS), default=MODELS)
    parser.add_argument('--arch', default='deit-tiny')
    parser.add_argument(
        '--sizes', nargs='+', type=size, metavar='HxW', default=[(224, 224), (512, 512)]
    )
    parser.add_argument('--modes', nargs='+', choices=MODES, default=MODES)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument(
        '--rounds', type=int, default=7, help='timed calls of each network, at least'
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32')
    parser.add_argument('--compile', action='store_true', help='compile each network')
    parser.add_argument('--targets', action='store_true', help='measure the targets instead')
    parser.add_argument(
        '--iteration', nargs='+', metavar='CONFIG', help='split the training iterations of these'
    )
    parser.add_argument('--floor', action='store_true', help='compute the least time of inference')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmark'))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(machine(args.device))
    if args.targets:
        targets(args)
        return
    if args.iteration:
        iterations(args)
        return
    if args.floor:
        floors(args)
        return

    for name in args.models:
        if BENCHMARK_MODELS[name].same_as_vit:
            difference = difference_to_ours(name, args.arch)
            verdict = 'the same as ours' if difference < SAME else 'NOT THE SAME as ours'
            print(f'{name}: {verdict} at 224x224, to {difference:.0e} of the largest value')
    found = list(rows(args))
    (args.out / 'benchmark.json').write_text(json.dumps(found, indent=1))
    print(
        f'\n| size | mode | network | time, ms | over {args.models[0]} | spread | '
        'peak memory, MiB |'
    )
    print('|---|---|---|---|---|---|---|')
    for row in found:
        print(
            f'| {row["size"]} | {row["mode"]} | {row["network"]} | {row["ms"]:.1f} | '
            f'{row["ratio"]:.2f} | {row["spread"]:.0%} | {row["mib"]:.0f} |'
        )
    if len(args.sizes) > 1:
        print('wrote', draw_benchmark(found, args.out / 'benchmark.png'))


def rows(args: argparse.Namespace) -> Iterator[dict]:
    dtype = getattr(torch, args.dtype)
    for height, width in args.sizes:
        for mode in args.modes:
            torch.manual_seed(0)
            images = torch.randn(args.batch, 3, height, width, device=args.device)
            calls = {}
            for name in args.models:
                network = BENCHMARK_MODELS[name].build(args.arch).to(args.device)
                if args.compile:
                    network.compile(dynamic=False)
                calls[name] = run_of(network, images, mode, dtype)
            print(f'{height}x{width}, batch {args.batch}, {mode}')
            bar = ProgressBar(args.rounds)
            times = time_alternately(calls, args.rounds, bar.update)
            print()
            for name, timing in times.items():
                yield dict(
                    size=f'{height}x{width}',
                    pixels=height * width,
                    mode=mode,
                    network=name,
                    ms=timing.median * 1e3,
                    ratio=timing.ratio(times[args.models[0]]),
                    spread=timing.spread,
                    mib=peak_memory(calls[name], args.device) / 2**20,
                )


def targets(args: argparse.Namespace) -> None:
    found = []
    lines = ['| what | target | measured | numerator | denominator | spread | met |']
    lines.append('|---|---|---|---|---|---|---|')
    for number, measured in enumerate(
        measure_targets(
            TARGETS, args.arch, args.rounds, lambda what: print(f'  {what}', flush=True)
        ),
        1,
    ):
        target = measured.target
        unit, scale = ('MiB', 2**-20) if target.memory else ('ms', 1e3)
        sign = '>=' if target.at_least else '<='
        lines.append(
            f'| {target.what} | {sign} {target.bound:g} | {measured.ratio:.2f} | '
            f'{measured.above * scale:.1f} {unit} | {measured.below * scale:.1f} {unit} | '
            f'{measured.spread:.0%} | {"yes" if target.met(measured.ratio) else "**no**"} |'
        )
        print(f'  {number}/{len(TARGETS)}: {measured.ratio:.2f} ({sign} {target.bound:g})')
        found.append(dataclasses.asdict(measured))
    mmengine, mmpvg, imported = import_seconds()
    found.append(dict(import_mmengine=mmengine, import_mmpvg=mmpvg, imported=imported))
    met = mmpvg - mmengine <= 0.2 and not imported
    lines.append(
        f'| `import mmpvg` beyond `import mmengine` | <= 0.2 s | {mmpvg - mmengine:+.2f} s | '
        f'{mmpvg:.2f} s | {mmengine:.2f} s | | {"yes" if met else "**no**"} |'
    )
    print('\n' + '\n'.join(lines))
    (args.out / 'targets.json').write_text(json.dumps(found, indent=1))


def iterations(args: argparse.Namespace) -> None:
    lines = [f'| config | batch | {" | ".join(ITERATION_PARTS)} | iteration, ms |']
    lines.append('|---' * (len(ITERATION_PARTS) + 3) + '|')
    for config in args.iteration:
        cfg, model = build_config_model(config)
        print(config, flush=True)
        bar = ProgressBar(args.rounds)
        times = split_iteration(cfg, model, args.rounds, args.device, progress=bar.update)
        print()
        medians = [timing.median * 1e3 for timing in times.values()]
        parts = ' | '.join(f'{ms:.0f} ({ms / sum(medians):.0%})' for ms in medians)
        batch = cfg.train_dataloader.batch_size
        lines.append(f'| {Path(config).stem} | {batch} | {parts} | {sum(medians):.0f} |')
    print('\n' + '\n'.join(lines))


def floors(args: argparse.Namespace) -> None:
    dtype = getattr(torch, args.dtype)
    rates = measure_rates(args.device, dtype)
    print(f'{rates.operations / 1e9:.0f} G operations and {rates.bytes / 1e9:.1f} GB a second')
    lines = [
        '| size | network | operations, G | over the rate, ms | moved, MB | over the bandwidth, ms'
    ]
    lines[0] += ' | measured, ms | of the matrix rate |'
    lines.append('|---' * 8 + '|')
    for height, width in args.sizes:
        images = torch.randn(args.batch, 3, height, width, device=args.device)
        networks = {
            name: BENCHMARK_MODELS[name].build(args.arch).to(args.device) for name in args.models
        }
        calls = {name: run_of(net, images, 'inference', dtype) for name, net in networks.items()}
        times = time_alternately(calls, args.rounds)
        for name, call in calls.items():
            operations = 2 * count_macs(call, networks[name])[0]
            moved, ms = moved_bytes(call), times[name].median * 1e3
            at_best = operations / rates.operations * 1e3
            lines.append(
                f'| {height}x{width} | {name} | {operations / 1e9:.1f} | {at_best:.1f} | '
                f'{moved / 1e6:.0f} | {moved / rates.bytes * 1e3:.1f} | {ms:.1f} | '
                f'{at_best / ms:.0%} |'
            )
    print('\n' + '\n'.join(lines))


def machine(device: str) -> str:
    name = (
        torch.cuda.get_device_name()
        if device == 'cuda'
        else f'{torch.get_num_threads()} CPU threads'
    )
    return f'{name}, torch {torch.__version__}, Python {platform.python_version()}'


if __name__ == '__main__':
    main()

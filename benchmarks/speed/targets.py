"""The ratios that this project set itself as targets, and what they come to on a machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from .networks import BENCHMARK_MODELS
from .timing import Timing, peak_memory, run_of, time_alternately

Size = tuple[int, int]


@dataclass(frozen=True)
class Target:
    """A ratio of two measurements, and its bound.

    Attributes:
        above: Network of the numerator, one of
            ``BENCHMARK_MODELS``.
        below: Of the denominator.
        mode: ``inference`` or ``training``.
        size: Of the image, (H, W).
        bound: The ratio to keep.
        at_least: Whether the ratio should be the bound or more, not the bound or less.
        memory: Whether peak memory is compared, not time.
        size_below: Of the image of the denominator, if another.
    """

    above: str
    below: str
    mode: str
    size: Size
    bound: float
    at_least: bool = False
    memory: bool = False
    size_below: Size | None = None

    def met(self, ratio: float) -> bool:
        """Whether a ratio, rounded as it is shown, keeps the bound."""
        ratio = round(ratio, 2)
        return ratio >= self.bound if self.at_least else ratio <= self.bound

    @property
    def what(self) -> str:
        """In words."""
        height, width = self.size
        below = self.below
        if self.size_below is not None:
            below += f' at {self.size_below[0]}x{self.size_below[1]}'
        kind = 'peak memory' if self.memory else 'time'
        return f'{self.above} / {below}, {self.mode} {kind}, {height}x{width}'


TARGETS = (
    Target('mpvg', 'timm', 'inference', (224, 224), 1.02),
    Target('mpvg', 'timm', 'inference', (512, 512), 1.02),
    Target('mpvg', 'timm', 'inference', (800, 1216), 1.02),
    Target('mpvg', 'default', 'training', (512, 512), 1.03),
    Target('mpvg', 'default', 'training', (512, 512), 1.01, memory=True),
    Target('mmseg', 'mpvg', 'inference', (800, 1216), 3.3, at_least=True),
    Target('mpvg', 'mpvg-windows', 'inference', (1024, 1024), 1.8, at_least=True),
    Target(
        'mpvg-windows-alone',
        'mpvg-windows-alone',
        'inference',
        (1024, 1024),
        4.2,
        size_below=(512, 512),
    ),
    Target('mpvg-windows-relative', 'timm', 'inference', (1024, 1024), 0.75),
    Target('mpvg-windows-gab', 'mpvg-windows', 'training', (512, 512), 1.05),
    Target('mpvg-gab', 'mpvg', 'inference', (800, 1216), 1.25),
    Target('mpvg-checkpointed', 'mpvg', 'training', (1024, 1024), 0.4, memory=True),
    Target('mpvg-checkpointed', 'mpvg', 'training', (1024, 1024), 1.35),
)


@dataclass(frozen=True)
class Measured:
    """What a target came to.

    Attributes:
        target: Which.
        above: Seconds (median) or bytes of the numerator.
        below: Of the denominator.
        ratio: Median over rounds for times.
        spread: Half the distance of the quartiles of the numerator's times over their median; 0
            for memory.
    """

    target: Target
    above: float
    below: float
    ratio: float
    spread: float = 0.0


def measure_targets(
    targets: tuple[Target, ...] = TARGETS,
    arch: str = 'deit-tiny',
    rounds: int = 7,
    progress: Callable[[str], None] = print,
    seconds: float = 30.0,
) -> Iterator[Measured]:
    """Measure each target, its two networks in turn in one process, on the CPU.

    Args:
        targets: Which.
        arch: Of all networks.
        rounds: Timed calls of each network, at least.
        progress: Called with what is being measured.
        seconds: How long to go on with short calls, of which there are 101 at most.
    """
    for target in targets:
        progress(target.what)
        torch.manual_seed(0)
        above = _call(target, arch, target.above, target.size)
        below = _call(target, arch, target.below, target.size_below or target.size)
        if target.memory:
            above(), below()
            numbers = peak_memory(above), peak_memory(below)
            yield Measured(target, *numbers, numbers[0] / numbers[1])
            continue
        calls = {'above': above, 'below': below}
        # Each round makes three calls of both.
        once = 3 * sum(timing.median for timing in time_alternately(calls, 1).values())
        times = time_alternately(calls, max(rounds, min(round(seconds / once), 101)))
        one, other = times['above'], times['below']
        yield Measured(target, one.median, other.median, one.ratio(other), one.spread)


def _call(target: Target, arch: str, name: str, size: Size) -> Callable[[], object]:
    network: nn.Module = BENCHMARK_MODELS[name].build(arch)
    return run_of(network, torch.randn(1, 3, *size), target.mode)


def import_seconds(rounds: int = 5) -> tuple[float, float, list[str]]:
    """Time ``import mmengine`` and ``import mmpvg``, in turn, each in a process of its own.

    Returns:
        Both medians, in seconds, and which of mmdet, mmseg, mmpretrain and timm mmpvg imported.
    """
    code = (
        'import time; b = time.perf_counter(); import {0}; print(time.perf_counter() - b); '
        'import sys; print(*({{"mmdet", "mmseg", "mmpretrain", "timm"}} & set(sys.modules)))'
    )

    def once(package: str) -> tuple[float, list[str]]:
        seconds, *found = subprocess.run(
            [sys.executable, '-c', code.format(package)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.splitlines()
        return float(seconds), found[0].split() if found else []

    times: dict[str, list[float]] = {'mmengine': [], 'mmpvg': []}
    found: list[str] = []
    for _ in range(rounds):
        for package in times:
            seconds, found = once(package)
            times[package].append(seconds)
    return Timing(tuple(times['mmengine'])).median, Timing(tuple(times['mmpvg'])).median, found

"""Times and memory of networks, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

MODES = ('inference', 'training')


@dataclass(frozen=True)
class Timing:
    """How long a call took.

    Attributes:
        seconds: Of each round, in their order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)

    def ratio(self, other: Timing) -> float:
        """The median over rounds of this one's time over the other's in the same round."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds))

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, over the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method='inclusive')
        return (high - low) / 2 / self.median


def time_alternately(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Time calls in turn, so that what slows the machine down for a while slows all of them.

    Each is timed by ``torch.utils.benchmark``, which makes two more calls before each timed one,
    and waits for the kernels of a GPU.

    Args:
        calls: By name. Every second round runs them backwards, so that none always follows the
            same other.
        rounds: Timed calls of each.
        progress: Called after every round.
    """
    threads = torch.get_num_threads()
    timers = {
        name: Timer('call()', globals=dict(call=call), num_threads=threads)
        for name, call in calls.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls) if number % 2 == 0 else reversed(list(calls)):
            seconds[name].append(timers[name].timeit(1).median)
        progress()
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def peak_memory(call: Callable[[], object], device: str = 'cpu') -> int:
    """The most bytes that torch had for tensors at one time during a call, beyond those before it.

    On the CPU it is summed from the profiler's records of each allocation, since torch keeps no
    count there; scratch memory inside of kernels is not in it.

    Args:
        call: What to run.
        device: ``cpu`` or ``cuda``.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        call()
    records = [e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]']
    # Nanoseconds since torch 2.4.
    records.sort(key=lambda e: e.start_ns() if hasattr(e, 'start_ns') else e.start_us())
    held = peak = 0
    for record in records:
        held += record.nbytes()
        peak = max(peak, held)
    return peak


def run_of(
    network: nn.Module, images: Tensor, mode: str, dtype: torch.dtype = torch.float32
) -> Callable[[], object]:
    """Make the call that a benchmark times.

    Args:
        network: Gives a tensor, or several in a tuple or list.
        images: (B, C, H, W).
        mode: ``inference``, a forward pass without gradients, or ``training``, a forward and a
            backward pass.
        dtype: Below float32 the passes run in autocast to it.

    Raises:
        ValueError: If the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f'unknown mode {mode!r}; choose one of {", ".join(MODES)}')
    network.train(mode == 'training')

    def forward() -> list[Tensor]:
        half = dtype != torch.float32
        with torch.autocast(images.device.type, dtype) if half else nullcontext():
            outputs = network(images)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    def infer() -> object:
        with torch.no_grad():
            return forward()

    def train() -> None:
        network.zero_grad(set_to_none=True)
        sum(output.float().mean() for output in forward()).backward()

    return infer if mode == 'inference' else train

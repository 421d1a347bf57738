"""Compare several processes with one, and a model that is shared out with a whole one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.launcher import ROOT, Process
from mmpvg.checkpoints import load_pth
from mmpvg.logs.run_logs import read_run_logs


def gradients_of_processes(
    config: str | Path, data_root: str | Path, images: Sequence[int], out: str | Path
) -> dict[str, Any]:
    """Compute the gradients of a training step with several gloo processes, and with one.

    Batch norm is replaced by group norm and dropout left out, since both make an image's gradient
    depend on its batch.

    Args:
        config: Of a detector, segmenter or classifier on the sample data.
        data_root: Of its training data.
        images: Of each process.
        out: File for what was found.

    Returns:
        Gradients by parameter: ``ddp`` of all processes; ``shards``, the mean of those that one
        process computes for each shard, which is what DistributedDataParallel promises for any
        loss; ``joined`` of one process on all images, which are equal too where all shards are of
        one size and the loss is a mean over a fixed number of terms, as a segmenter's. A detector
        divides by the positives sampled in its shard, so there ``features`` has those of backbone
        and neck under such a mean, of all processes and of one. Also ``losses`` of the processes,
        ``joined_loss``, and the number of ``parameters``.
    """
    Process(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone']
        + [f'--nproc_per_node={len(images)}', '-m', 'benchmarks.robustness.process_worker']
        + [config, data_root, out, *images],
        Path(out).with_suffix('.txt'),
    ).run()
    return load_pth(out)


def largest_difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest difference of two sets of tensors, over the largest value of the second.

    Raises:
        ValueError: If they have different names.
    """
    if set(found) != set(wanted):
        raise ValueError(f'only one of both has {", ".join(sorted(set(found) ^ set(wanted)))}')
    differences = ((found[name] - wanted[name]).abs().max() for name in wanted)
    return float(max(differences) / max(value.abs().max() for value in wanted.values()))


@dataclass(frozen=True)
class FsdpResult:
    """What a training with a shared-out model ended with.

    Attributes:
        weights: The largest difference of a weight to that of DistributedDataParallel.
        resumed: That of the training that was resumed in the middle to the one that was not.
        resumed_whole: That of DistributedDataParallel resumed from the checkpoint of FSDP to the
            training without FSDP.
        metrics: Number of metrics of the validation in training.
        equal_metrics: How many of them ``tools/test.py`` gives to the digit, on one device.
    """

    weights: float
    resumed: float
    resumed_whole: float
    metrics: int
    equal_metrics: int


def run_fsdp_study(
    config: str | Path, options: Sequence[str], out_dir: str | Path, processes: int = 2
) -> FsdpResult:
    """Train with FSDP and without, resume both ways from the middle, and test.

    Args:
        config: Of the task on the sample data.
        options: ``KEY=VALUE`` settings; a checkpoint in the middle, one at the end, and a
            validation there.
        out_dir: Folder for the runs; earlier ones are removed.
        processes: Of each training.
    """
    out_dir = Path(out_dir)
    shutil.rmtree(out_dir, ignore_errors=True)

    def train(name: str, *arguments: str) -> Path:
        script = ['bash', ROOT / 'tools/dist_train.sh', config, processes]
        command = [*script, '--work-dir', out_dir / name, *arguments, '--cfg-options', *options]
        Process(command, out_dir / f'{name}.txt').run()
        return out_dir / name

    whole, shared = train('ddp'), train('fsdp', '--fsdp')
    first, last = _checkpoints(shared)
    resumed = train('resumed', '--fsdp', '--resume', str(first))
    resumed_whole = train('resumed_whole', '--resume', str(first))
    Process(
        [sys.executable, ROOT / 'tools/test.py', config, last]
        + ['--work-dir', out_dir / 'test', '--cfg-options', *options],
        out_dir / 'test.txt',
    ).run()
    (tested,) = (json.loads(path.read_text()) for path in out_dir.glob('test/*/*.json'))
    curves = read_run_logs(shared)
    metrics = {name: curves[name].values[-1] for name in tested if name in curves}

    def difference(one: Path, other: Path) -> float:
        states = (load_pth(_checkpoints(run)[-1])['state_dict'] for run in (one, other))
        found, wanted = ({name: value.double() for name, value in s.items()} for s in states)
        return max(float((found[name] - wanted[name]).abs().max()) for name in wanted)

    return FsdpResult(
        difference(shared, whole),
        difference(resumed, shared),
        difference(resumed_whole, whole),
        len(metrics),
        sum(tested[name] == value for name, value in metrics.items()),
    )


def _checkpoints(run: Path) -> list[Path]:
    """Those at regular intervals, in their order."""
    paths = [path for path in run.glob('*.pth') if path.stem.startswith(('iter_', 'epoch_'))]
    return sorted(paths, key=lambda path: int(path.stem.split('_')[1]))

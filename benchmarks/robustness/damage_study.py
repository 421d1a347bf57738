"""Train on data that was damaged on purpose, and see what becomes of it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope

from benchmarks.launcher import Process, training_command
from mmpvg.datasets.checks.audit import audit
from mmpvg.logs.run_logs import read_run_logs

from .damaged_data import damage_dataset


@dataclass(frozen=True)
class DamageResult:
    """What became of a training on damaged data.

    Attributes:
        damaged: Images that were damaged, each in one way.
        found: Of these, how many the check of the data set names.
        invented: Images that the check names and that are whole.
        replaced: Damaged images that the log of the training names as left out.
        to_replace: How many of them the check says are.
        losses: Losses that were logged.
        not_finite: Of these, how many are not finite.
        exit_code: Of the training.
        last_line: Of its output.
    """

    damaged: int
    found: int
    invented: int
    replaced: int
    to_replace: int
    losses: int
    not_finite: int
    exit_code: int
    last_line: str


def run_damage_study(
    config: str | Path,
    task: str,
    data_dir: str | Path,
    out_dir: str | Path,
    number: int,
    options: Sequence[str],
    kinds: Sequence[str] | None = None,
) -> DamageResult:
    """Damage a copy of the sample data, check it, and train on it.

    Args:
        config: Of the task on the sample data.
        task: ``detection`` or ``segmentation``.
        data_dir: The sample data.
        out_dir: Folder for the copy and the run; must not hold earlier ones.
        number: Images to damage.
        options: ``KEY=VALUE`` settings of the training.
        kinds: Of damage; None for all that training survives.
    """
    root, work_dir = Path(out_dir) / 'data', Path(out_dir) / 'run'
    damaged = damage_dataset(data_dir, root, task, number, kinds=kinds)
    damaged = {Path(damage.path).stem for damage in damaged}
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    cfg.train_dataloader.dataset.data_root = f'{root}/'
    findings = [f for result in audit(cfg, ['train'], 'pixels') for f in result.findings]
    # An image and its label map have the same name.
    named = {Path(finding.path).stem for finding in findings}
    to_replace = {Path(f.path).stem for f in findings if f.effect == 'replaced'}

    data = f'train_dataloader.dataset.data_root={root}/'
    # The audit would stop the training before some of the damage is met.
    command = training_command(config, work_dir, [data, *options], '--no-audit')
    training = Process(command, Path(out_dir) / 'output.txt')
    training.start()
    exit_code = training.wait()
    output = training.log.read_text()
    left_out = re.findall(r'(\S+) is left out, another image is taken', output)
    left_out = {Path(path).stem for path in left_out}
    losses = _losses(work_dir)
    return DamageResult(
        damaged=len(damaged),
        found=len(damaged & named),
        invented=len(named - damaged),
        replaced=len(left_out & damaged),
        to_replace=len(to_replace),
        losses=len(losses),
        not_finite=sum(not math.isfinite(loss) for loss in losses),
        exit_code=exit_code,
        last_line=output.strip().splitlines()[-1],
    )


def _losses(work_dir: Path) -> list[float]:
    if not any(work_dir.glob('*/vis_data/scalars.json')):
        return []
    curves = read_run_logs(work_dir)
    return [value for name, curve in curves.items() if 'loss' in name for value in curve.values]

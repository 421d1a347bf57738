"""Kill trainings, resume them, and compare what they end with to one that was never interrupted.

    python tools/make_sample_dataset.py
    python -m benchmarks.robustness.kill segmentation detection

Each trial is a training that is interrupted once, and resumed. A table is printed; the exit status
is 1 if a training ended with other weights or lost a checkpoint.
"""

import argparse
import sys
import time
from pathlib import Path

from .kill_study import Outcome, plan_kills, run_kill_study

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/sample'
# Small, with checkpoints amid epochs, and with all that is drawn at random in training.
COMMON = (
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=2',
    'model.backbone.drop_path_rate=0.2',
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.save_best=None',
    'default_hooks.checkpoint.max_keep_ckpts=2',
    'val_cfg=None',
    'val_dataloader=None',
    'val_evaluator=None',
)
TASKS = {
    'segmentation': (
        'upernet_vit_mpvg_sample.py',
        ('train_cfg.max_iters=30', 'default_hooks.checkpoint.interval=5'),
    ),
    'detection': (
        'mask_rcnn_vit_mpvg_sample.py',
        (
            'train_cfg.max_epochs=2',
            'train_dataloader.num_batch_per_epoch=10',
            'default_hooks.checkpoint.interval=4',
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('tasks', nargs='+', choices=list(TASKS))
    parser.add_argument('--random', type=int, default=7, help='kills at random instants, per task')
    parser.add_argument('--saving', type=int, default=3, help='kills amid a checkpoint, per task')
    parser.add_argument('--sigterm', type=int, default=3, help='SIGTERMs, per task')
    parser.add_argument('--jobs', type=int, default=2, help='trainings at a time')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/kill_study'))
    parser.add_argument('--cfg-options', nargs='+', default=[], help='KEY=VALUE')
    args = parser.parse_args()

    trials = plan_kills(random=args.random, saving=args.saving, sigterm=args.sigterm)
    rows, failed = [], 0
    for task in args.tasks:
        config, options = TASKS[task]
        started = time.monotonic()

        def show(done: int, outcome: Outcome, task: str = task, started: float = started) -> None:
            left = (time.monotonic() - started) / done * (len(trials) - done)
            print(f'{task} {done}/{len(trials)}  {_tell(outcome)}  ({left / 60:.0f} min left)')
            sys.stdout.flush()

        print(f'{task}: first a training that is not interrupted', flush=True)
        outcomes = run_kill_study(
            trials,
            str(CONFIGS / config),
            args.out / task,
            (*COMMON, *options, *args.cfg_options),
            args.jobs,
            show,
        )
        for kind in dict.fromkeys(trial.kind for trial in trials):
            of_kind = [outcome for outcome in outcomes if outcome.trial.kind == kind]
            passed = sum(outcome.passed for outcome in of_kind)
            half = sum(outcome.half_written for outcome in of_kind)
            failed += len(of_kind) - passed
            rows.append(f'| {task} | {kind} | {len(of_kind)} | {half} | {passed} |')
    print('\n| task | interruption | trials | amid a checkpoint | bit-equal, nothing lost |')
    print('|---|---|---|---|---|')
    print('\n'.join(rows))
    sys.exit(1 if failed else 0)


def _tell(outcome: Outcome) -> str:
    said = f'{outcome.trial.name}: exit {outcome.exit_code}, resumed at {outcome.resumed_at}, '
    if outcome.differing:
        return f'{said}{len(outcome.differing)} tensors differ, such as {outcome.differing[0]}'
    return said + ('bit-equal' if outcome.passed else 'bit-equal, but a checkpoint is broken')


if __name__ == '__main__':
    main()

"""Kill trainings, resume them, and compare what they end with to one that was never interrupted.

    python tools/make_sample_dataset.py
    python -m benchmarks.robustness.kill segmentation detection

Each trial is a training that is interrupted once, and resumed. A table is printed; the exit status
is 1 if a training ended with other weights or lost a checkpoint.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.launcher import CONFIGS, Countdown

from .kill_study import Outcome, plan_kills, run_kill_study

# Small, with checkpoints within epochs, and with all that is drawn at random in training.
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
    parser.add_argument('--saving', type=int, default=3, help='kills during a checkpoint, per task')
    parser.add_argument('--sigterm', type=int, default=3, help='SIGTERMs, per task')
    parser.add_argument('--jobs', type=int, default=2, help='trainings at a time')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/kill_study'))
    parser.add_argument('--cfg-options', nargs='+', default=[], help='KEY=VALUE')
    args = parser.parse_args()

    trials = plan_kills(random=args.random, saving=args.saving, sigterm=args.sigterm)
    rows, failed = [], 0
    for task in args.tasks:
        config, options = TASKS[task]
        print(f'{task}: first a training that is not interrupted', flush=True)
        countdown = Countdown(len(trials))
        outcomes = run_kill_study(
            trials,
            str(CONFIGS / config),
            args.out / task,
            (*COMMON, *options, *args.cfg_options),
            args.jobs,
            lambda done, outcome, show=countdown: show(done, _described(outcome)),
        )
        for kind in dict.fromkeys(trial.kind for trial in trials):
            of_kind = [outcome for outcome in outcomes if outcome.trial.kind == kind]
            passed = sum(outcome.passed for outcome in of_kind)
            half = sum(outcome.half_written for outcome in of_kind)
            failed += len(of_kind) - passed
            rows.append(f'| {task} | {kind} | {len(of_kind)} | {half} | {passed} |')
    print('\n| task | interruption | trials | during a checkpoint | bit-equal, nothing lost |')
    print('|---|---|---|---|---|')
    print('\n'.join(rows))
    sys.exit(1 if failed else 0)


def _described(outcome: Outcome) -> str:
    text = f'{outcome.trial.name}: exit {outcome.exit_code}, resumed at {outcome.resumed_at}, '
    if outcome.differing:
        return f'{text}{len(outcome.differing)} tensors differ, such as {outcome.differing[0]}'
    return text + ('bit-equal' if outcome.passed else 'bit-equal, but a checkpoint is broken')


if __name__ == '__main__':
    main()

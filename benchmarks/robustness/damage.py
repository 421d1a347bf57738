"""Damage the sample data, check it, and train on it.

    python tools/make_sample_dataset.py
    python -m benchmarks.robustness.damage

Both tasks train over all images once; the exit status is 1 if damage was overlooked, a whole image
was named, a loss was not finite, or a training ended otherwise than it should. The last row has
labels outside the classes, at which training must stop.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.launcher import CONFIGS, hook_option

from .damage_study import run_damage_study

HOOK = 'mmpvg.BrokenDataHook'
COMMON = (
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=2',
    'default_hooks.logger.interval=1',
    'default_hooks.checkpoint.save_best=None',
    'val_cfg=None',
    'val_dataloader=None',
    'val_evaluator=None',
)
TASKS = {
    'detection': ('mask_rcnn_vit_mpvg_sample.py', ('train_cfg.max_epochs=1',)),
    'segmentation': ('upernet_vit_mpvg_sample.py', ('train_cfg.max_iters=80',)),
}
# Task, kinds of damage, and how the training should end.
ROWS = (('detection', None, 0), ('segmentation', None, 0), ('segmentation', ['label outside'], 1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', default='data/sample', help='the sample data')
    parser.add_argument('--number', type=int, default=100, help='damaged images, per task')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/damage_study'))
    args = parser.parse_args()
    rows, wrong = [], 0
    for task, kinds, code in ROWS:
        name = f'{task}, {kinds[0]}' if kinds else task
        print(f'{name}: damaging, checking, training', flush=True)
        config, options = TASKS[task]
        result = run_damage_study(
            CONFIGS / config,
            task,
            args.data,
            args.out / name.replace(', ', '_').replace(' ', '_'),
            args.number,
            (*COMMON, *options, hook_option(CONFIGS / config, HOOK, f'limit={args.number}')),
            kinds,
        )
        print(f'  exit {result.exit_code}: {result.last_line}')
        rows.append(
            f'| {name} | {result.damaged} | {result.found} | {result.invented} | '
            f'{result.replaced} of {result.to_replace} | {result.not_finite} of {result.losses} | '
            f'{"goes on" if result.exit_code == 0 else "stops"} |'
        )
        wrong += result.exit_code != code or result.found != result.damaged
        wrong += bool(result.invented or result.not_finite)
        # Training that stops has not met them all.
        wrong += code == 0 and result.replaced != result.to_replace
    print(
        '\n| data | damaged | found beforehand | whole but named | replaced and named in training '
        '| losses that are not finite | training |\n|---|---|---|---|---|---|---|'
    )
    print('\n'.join(rows))
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()

"""Train deliveries x poolings x seeds on the digits; a table, a CSV file and a plot of accuracies.

    python tools/make_digits_dataset.py
    python -m benchmarks.training.classification --jobs 2

Finished runs are kept: interrupted, it goes on where it was.
"""

import argparse
import csv
from pathlib import Path

from benchmarks.launcher import CONFIGS, Countdown
from mmpvg.utils.command_line import positive, user_errors

from .classification_plot import draw_study
from .classification_study import StudyRun, plan_study, run_study, summarize

CONFIG = CONFIGS / 'classifier_vit_mpvg-ggem_sample.py'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/classification_study'))
    parser.add_argument('--deliveries', nargs='+', default=['default', 'lape', 'pvg', 'mpvg'])
    parser.add_argument('--poolings', nargs='+', default=['average', 'ggem'])
    parser.add_argument('--seeds', type=positive, default=3, help='number of seeds')
    parser.add_argument('--epochs', type=positive, default=30, help='epochs of each training')
    parser.add_argument('--jobs', type=positive, default=1, help='trainings at a time')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='KEY=VALUE')
    args = parser.parse_args()

    runs = plan_study(args.deliveries, args.poolings, args.seeds)
    options = [
        f'train_cfg.max_epochs={args.epochs}',
        f'train_cfg.val_interval={args.epochs}',
        f'param_scheduler.1.end={args.epochs}',
        f'param_scheduler.1.T_max={args.epochs}',
        'default_hooks.checkpoint.max_keep_ckpts=1',
        *args.cfg_options,
    ]
    countdown = Countdown(len(runs))

    def show(done: int, run: StudyRun, accuracy: float) -> None:
        countdown(done, f'{run.name}: {accuracy:.2f} %')

    with user_errors(parser):
        accuracies = run_study(runs, str(CONFIG), args.out, options, args.jobs, show)
    results = summarize(accuracies)

    print(f'\n| delivery | pooling | accuracy (%), mean ± spread of {args.seeds} seeds |')
    print('|---|---|---|')
    for result in results:
        print(f'| {result.delivery} | {result.pooling} | {result.mean:.2f} ± {result.spread:.2f} |')
    with (args.out / 'accuracies.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['delivery', 'pooling', 'seed', 'accuracy'])
        rows.writerows((r.delivery, r.pooling, r.seed, a) for r, a in accuracies.items())
    title = f'Digits, {args.epochs} epochs, {args.seeds} seeds: each run and the mean'
    plot = draw_study(results, args.out / 'study.png', title)
    print('\nwrote', args.out / 'accuracies.csv', 'and', plot)


if __name__ == '__main__':
    main()

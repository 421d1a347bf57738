r"""Train the PE deliveries on the sample data, and analyze the networks in one table.

    python tools/make_sample_dataset.py
    python -m benchmarks.training.deliveries --jobs 2

A UPerNet for each delivery and seed. Of each: mIoU, counterbalance, receptive field, PE similarity.
Finished trainings are kept: interrupted, it goes on where it was.
"""

import argparse
import csv
import sys
from pathlib import Path

from mmengine.config import Config

from benchmarks.launcher import CONFIGS, Countdown
from mmpvg.analysis.inspection import image_files, open_model
from mmpvg.utils.command_line import positive, user_errors

from .delivery_study import DELIVERY_NUMBERS, describe_delivery, mean_and_spread
from .trainings import Training, run_trainings

CONFIG = CONFIGS / 'upernet_vit_mpvg_sample.py'
METRIC = 'mIoU'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/delivery_study'))
    parser.add_argument('--deliveries', nargs='+', default=['default', 'lape', 'pvg', 'mpvg'])
    parser.add_argument('--seeds', type=positive, default=3, help='number of seeds')
    parser.add_argument(
        '--num-images', type=positive, default=16, help='test images of the analysis'
    )
    parser.add_argument('--jobs', type=positive, default=1, help='trainings at a time')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='KEY=VALUE')
    args = parser.parse_args()

    trainings = {
        (delivery, seed): Training(
            f'{delivery}_{seed}',
            (
                f'model.backbone.pe_delivery={delivery}',
                f'randomness.seed={seed}',
                'default_hooks.checkpoint.max_keep_ckpts=1',
                *args.cfg_options,
            ),
        )
        for seed in range(args.seeds)
        for delivery in args.deliveries
    }
    countdown = Countdown(len(trainings))

    def show(done: int, training: Training, value: float) -> None:
        countdown(done, f'{training.name}: {value:.2f}')

    with user_errors(parser):
        reached = run_trainings(
            list(trainings.values()), str(CONFIG), args.out, METRIC, args.jobs, show
        )
        described = {}
        for key, training in trainings.items():
            print(f'analyzing {training.name}', file=sys.stderr)
            numbers = _analyze(args.out / training.name, args.num_images)
            described[key] = {METRIC: reached[training], **numbers}

    with (args.out / 'deliveries.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['delivery', 'seed', METRIC, *DELIVERY_NUMBERS])
        rows.writerows([*key, *numbers.values()] for key, numbers in described.items())
    table = _table(args.deliveries, described)
    (args.out / 'deliveries.md').write_text(table)
    print(f'\n{table}\nwrote {args.out / "deliveries.csv"} and {args.out / "deliveries.md"}')


def _analyze(folder: Path, num_images: int) -> dict[str, float]:
    config = folder / CONFIG.name
    data = Config.fromfile(config).test_dataloader.dataset
    images = Path(data.data_root) / data.data_prefix.img_path
    model = open_model(config, (folder / 'last_checkpoint').read_text())
    files = image_files(images, num_images)
    batches = [files[start : start + 4] for start in range(0, len(files), 4)]
    return describe_delivery(
        model, lambda: (model.read_images(batch, model.native_size) for batch in batches)
    )


def _table(deliveries: list[str], described: dict) -> str:
    """A row a number, a column a delivery: mean and spread over seeds."""
    seeds = 1 + max(seed for _, seed in described)
    columns = {
        delivery: mean_and_spread([described[delivery, seed] for seed in range(seeds)])
        for delivery in deliveries
    }
    what = 'one seed' if seeds == 1 else f'mean ± spread of {seeds} seeds'
    lines = [f'| {what} | {" | ".join(deliveries)} |']
    lines.append('|---' * (len(deliveries) + 1) + '|')
    for key, title in {METRIC: METRIC, **DELIVERY_NUMBERS}.items():
        cells = [columns[delivery][key] for delivery in deliveries]
        lines.append(f'| {title} | {" | ".join(_shown(*cell) for cell in cells)} |')
    return '\n'.join(lines) + '\n'


def _shown(mean: float, spread: float) -> str:
    if mean != mean:
        return '-'
    form = '.1e' if abs(mean) < 1e-3 else '.3f'
    return f'{mean:{form}}' + ('' if spread != spread else f' ± {spread:{form}}')


if __name__ == '__main__':
    main()

"""Images of 300 shapes, from 1x1 to 2000x40 pixels, through the sample models.

    python -m benchmarks.robustness.shape

Losses and predictions of untrained models must be there and finite; the exit status is 1 if
one is not.
"""

import argparse
import sys
from pathlib import Path

from mmengine.utils import track_iter_progress

from benchmarks.launcher import CONFIGS

from .shape_study import random_shapes, run_shape_study

NAMES = (
    'upernet_vit_mpvg_sample.py',
    'upernet_vit-adapter_mpvg_sample.py',
    'mask_rcnn_vit_mpvg_sample.py',
    'mask_rcnn_vit-adapter_mpvg_sample.py',
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--number', type=int, default=300, help='shapes')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--configs', type=Path, nargs='+', default=[CONFIGS / n for n in NAMES])
    args = parser.parse_args()
    shapes = random_shapes(args.number, args.seed)
    rows, wrong = [], 0
    for config in args.configs:
        results = run_shape_study(config, shapes, args.seed)
        print(f'{config.stem}:', file=sys.stderr)
        results = list(track_iter_progress((results, len(shapes)), file=sys.stderr))
        failed = [result for result in results if result.error]
        broken = [result for result in results if result.not_finite]
        for result in failed + broken:
            print(f'\n{result.shape}: {result.error or result.not_finite}')
        rows.append(f'| {config.stem} | {len(results)} | {len(failed)} | {len(broken)} |')
        wrong += len(failed) + len(broken)
    print('\n| model | shapes | errors | values that are not finite |\n|---|---|---|---|')
    print('\n'.join(rows))
    sys.exit(1 if wrong else 0)


if __name__ == '__main__':
    main()

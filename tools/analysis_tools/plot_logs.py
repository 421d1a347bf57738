r"""Plot losses, learning rate and metrics of trainings, and write their numbers beside the picture.

    python tools/analysis_tools/plot_logs.py work_dirs/RUN [work_dirs/OTHER ...] --out curves.png
    python tools/analysis_tools/plot_logs.py work_dirs/RUN --keys loss lr coco/bbox_mAP --smooth 5

Resumes of a run are joined. Without --keys: the total loss, the learning rate, and all metrics that
every run has. A .csv of the same name holds all that is drawn.
"""

import argparse
import csv
from pathlib import Path

from mmpvg.logs.plots import draw_run_logs
from mmpvg.logs.run_logs import Curve, read_run_logs
from mmpvg.utils.command_line import user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', type=Path, help='work dirs')
    parser.add_argument('--keys', nargs='+', help='what to draw; an unknown one lists all')
    parser.add_argument('--smooth', type=int, default=1, help='number of values in a drawn mean')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/curves.png'))
    args = parser.parse_args()
    if args.smooth < 1:
        parser.error(f'--smooth must be 1 or more, got {args.smooth}')

    names = [run.name for run in args.runs]
    with user_errors(parser):
        runs = {
            run.name if names.count(run.name) == 1 else str(run): read_run_logs(run)
            for run in args.runs
        }
    keys = args.keys or common_keys(runs)
    known = dict.fromkeys(key for curves in runs.values() for key in curves)
    if unknown := [key for key in keys if key not in known]:
        parser.error(f'no run logged {", ".join(unknown)}; there are {", ".join(known)}')
    print('wrote', draw_run_logs(runs, keys, args.out, args.smooth))
    table = args.out.with_suffix('.csv')
    with table.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['run', 'key', 'iteration', 'value'])
        for run, curves in runs.items():
            for key in keys:
                curve = curves.get(key, Curve())
                writer.writerows(
                    (run, key, *point) for point in zip(curve.iterations, curve.values)
                )
    print('wrote', table)
    for run, curves in runs.items():
        last = [f'{key} {curves[key].values[-1]:.4g}' for key in keys if key in curves]
        print(f'{run}: at the end {", ".join(last)}')


def common_keys(runs: dict[str, dict[str, Curve]]) -> list[str]:
    first, *others = runs.values()
    # COCO's metrics say -1 where there is nothing to measure, such as no large object.
    drawn = [
        key
        for key, curve in first.items()
        if key in ('loss', 'lr') or (curve.measured and set(curve.values) != {-1.0})
    ]
    drawn = [key for key in drawn if all(key in curves for curves in others)]
    return sorted(drawn, key=lambda key: ('loss', 'lr', key).index(key))


if __name__ == '__main__':
    main()

r"""Compare two checkpoints on the same test images: numbers, and where they differ most.

    python tools/analysis_tools/compare.py CONFIG CHECKPOINT_A CHECKPOINT_B --out DIR
    python tools/analysis_tools/compare.py CONFIG_A CHECKPOINT_A CONFIG_B CHECKPOINT_B --out DIR

For detectors and segmenters. Writes to DIR: index.html, one page that needs no other file;
metrics.json; images.csv, with the score of every image. The test set, and what measures it, are
those of the first config.
"""

import argparse
import csv
import io
import json
import shlex
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmpvg.comparison.candidates import load_candidates
from mmpvg.comparison.comparison import Comparison, compare
from mmpvg.comparison.page import write_comparison_page
from mmpvg.utils.command_line import make_folder, user_errors
from mmpvg.utils.whole_file import write_whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'files',
        nargs='+',
        metavar='FILE',
        help='CONFIG CHECKPOINT_A [CONFIG_B] CHECKPOINT_B: one config for both, or two',
    )
    parser.add_argument('--names', nargs=2, metavar=('A', 'B'), help='what to call the two')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/comparison'), metavar='DIR')
    parser.add_argument('--num-images', type=int, default=24, help='images to show')
    parser.add_argument('--score-thr', type=float, default=0.5, help='least score of a detection')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE, for both')
    args = parser.parse_args()
    if len(args.files) not in (3, 4):
        parser.error(
            f'give CONFIG CHECKPOINT_A CHECKPOINT_B, or CONFIG_A CHECKPOINT_A CONFIG_B '
            f'CHECKPOINT_B; got {len(args.files)}: {" ".join(args.files)}'
        )
    if args.num_images < 0:
        parser.error(f'--num-images must be 0 or more, got {args.num_images}')
    config_a, checkpoint_a, *between, checkpoint_b = args.files
    configs = config_a, between[0] if between else config_a
    checkpoints = checkpoint_a, checkpoint_b
    names = args.names or own_names(configs, checkpoints)
    if names[0] == names[1]:
        parser.error(f'--names must differ, got {names[0]!r} twice')

    with user_errors(parser):
        candidates = load_candidates(configs, checkpoints, names, args.cfg_options)
        make_folder(args.out)
        comparison = compare(candidates, args.score_thr)
    write_numbers(comparison, args.out)
    command = shlex.join(['python', 'tools/analysis_tools/compare.py', *sys.argv[1:]])
    page = write_comparison_page(comparison, args.out / 'index.html', args.num_images, command)
    print('\nwrote', page, 'and, beside it, metrics.json and images.csv')
    for name, pair in comparison.metrics.items():
        if pair.difference is not None:
            print(f'{name}: {pair.a:.4g} and {pair.b:.4g}, {pair.difference:+.4g}')


def own_names(configs: tuple, checkpoints: tuple) -> tuple:
    """The names of the checkpoints, or of the configs, if they differ."""
    for files in (checkpoints, configs):
        names = tuple(Path(file).stem for file in files)
        if names[0] != names[1]:
            return names
    return 'A', 'B'


def write_numbers(comparison: Comparison, out: Path) -> None:
    a, b = comparison.candidates

    def numbers(pairs: dict) -> dict:
        return {
            name: dict(a=pair.a, b=pair.b, difference=pair.difference)
            for name, pair in pairs.items()
        }

    numbers_of_all = dict(
        a=dict(name=a.name, config=a.config, checkpoint=a.checkpoint),
        b=dict(name=b.name, config=b.config, checkpoint=b.checkpoint),
        images=len(comparison.images),
        image_score=f'{comparison.score.name}: {comparison.score.description}',
        metrics=numbers(comparison.metrics),
        by_class={name: numbers(pairs) for name, pairs in comparison.by_class.items()},
    )
    write_whole(out / 'metrics.json', json.dumps(numbers_of_all, indent=1, ensure_ascii=False))
    table = io.StringIO(newline='')
    rows = csv.writer(table, lineterminator='\n')
    rows.writerow(['image', 'score_a', 'score_b', 'difference'])
    for image in comparison.images:
        rows.writerow([image.path, image.score.a, image.score.b, image.score.difference])
    write_whole(out / 'images.csv', table.getvalue())


if __name__ == '__main__':
    main()

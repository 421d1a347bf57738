r"""How alike the position embeddings of a network's tokens are, and what a resize does to that.

    python tools/analysis_tools/pe_similarity.py --model CONFIG CHECKPOINT \
        [--grids 8x8 24x40] --out work_dirs/pe_similarity

Mosaics of cosine similarities of the PE table and of what each block and the last norm receive, at
the native grid and at others, and how much a resize distorts them, kernel by kernel.
"""

import argparse
import csv
from dataclasses import astuple, fields

import numpy as np

from mmpvg.analysis import (
    ResizeDistortion,
    delivered_tables,
    resize_distortions,
    similarity_mosaic,
)
from mmpvg.analysis.inspection_arguments import (
    add_inspection_arguments,
    opened_models,
    size_of,
)
from mmpvg.visualization import draw_distortions, draw_mosaics

KERNELS = ('bicubic', 'bilinear', 'nearest-exact', 'nearest', 'area')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_inspection_arguments(parser, 'work_dirs/pe_similarity', images=False)
    parser.add_argument(
        '--grids', nargs='+', type=size_of, metavar='hxw', help='in patches; halves and doubles'
    )
    parser.add_argument('--kernels', nargs='+', choices=KERNELS, default=KERNELS[:3])
    parser.add_argument('--tiles', type=int, default=12, help='maps down and across at most')
    args = parser.parse_args()

    for model in opened_models(parser, args):
        h, w = native = tuple(delivered_tables(model.vit)['table'].shape[:2])
        grids = args.grids or [
            (max(h // 2, 1), max(w // 2, 1)),
            (3 * h // 2, 2 * w),
            (2 * h, 2 * w),
        ]
        for grid in [native, *(grid for grid in grids if grid != native)]:
            mosaics = {
                name: similarity_mosaic(pe, args.tiles)[0]
                for name, pe in delivered_tables(model.vit, grid).items()
            }
            stem = args.out / f'mosaics_{model.name}_{grid[0]}x{grid[1]}'
            title = f'{model.name}, grid {grid[0]}x{grid[1]} (native {h}x{w})'
            print('wrote', draw_mosaics(mosaics, stem.with_suffix('.png'), title))
            np.savez_compressed(stem.with_suffix('.npz'), **mosaics)
        _write_distortions(args, model, grids)


def _write_distortions(args: argparse.Namespace, model, grids: list) -> None:
    distortions = resize_distortions(model.vit, grids, args.kernels)
    stem = args.out / f'distortions_{model.name}'
    with stem.with_suffix('.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow([field.name for field in fields(ResizeDistortion)])
        rows.writerows(astuple(distortion) for distortion in distortions)
    table = [d for d in distortions if d.source == 'table']
    print('wrote', draw_distortions(table, stem.with_suffix('.png')))
    print(f'\nthe table of {model.name}, resized\n')
    print(
        '| grid | kernel | error of similarities | cosine of a row | norm |\n|---|---|---|---|---|'
    )
    for d in table:
        grid = f'{d.grid[0]}x{d.grid[1]}'
        print(f'| {grid} | {d.kernel} | {d.error:.3f} | {d.kept:.3f} | {d.norm_ratio:.2f} |')


if __name__ == '__main__':
    main()

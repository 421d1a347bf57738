r"""How alike the position embeddings of a network's tokens are, and what a resize does to that.

    python tools/analysis_tools/pe_similarity.py --model CONFIG CHECKPOINT \
        [--grids 8x8 24x40] --out work_dirs/pe_similarity

Mosaics of cosine similarities of the PE table and of what each block and the last norm receive, at
the native grid and at others, and how much a resize distorts them, kernel by kernel.
"""

import argparse
import csv
import sys
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmpvg.analysis.inspection_arguments import (
    add_inspection_arguments,
    opened_models,
)
from mmpvg.analysis.pe_similarity import (
    ResizeDistortion,
    delivered_tables,
    resize_distortions,
    similarity_mosaic,
)
from mmpvg.analysis.plots import draw_distortions, draw_mosaics
from mmpvg.utils.command_line import positive, size_of, user_errors

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
    parser.add_argument('--tiles', type=positive, default=12, help='maps down and across at most')
    args = parser.parse_args()

    with user_errors(parser):
        look(args)


def look(args: argparse.Namespace) -> None:
    for model in opened_models(args):
        if model.vit.position_embedding is None:
            print(f'{model.name} has no position embedding: left out', file=sys.stderr)
            continue
        h, w = native = model.vit.position_embedding.grid
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
            stem = f'mosaics_{model.name}_{grid[0]}x{grid[1]}'
            title = f'{model.name}, grid {grid[0]}x{grid[1]} (native {h}x{w})'
            print('wrote', draw_mosaics(mosaics, args.out / f'{stem}.png', title))
            np.savez_compressed(args.out / f'{stem}.npz', **mosaics)
        distortions = []
        for grid in tqdm(grids, f'{model.name}, resized', unit='grid'):
            distortions += resize_distortions(model.vit, [grid], args.kernels)
        write_distortions(args.out, model.name, distortions)


def write_distortions(out: Path, name: str, distortions: list[ResizeDistortion]) -> None:
    with (out / f'distortions_{name}.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow([field.name for field in fields(ResizeDistortion)])
        rows.writerows(astuple(distortion) for distortion in distortions)
    table = [d for d in distortions if d.source == 'table']
    print('wrote', draw_distortions(table, out / f'distortions_{name}.png'))
    print(f'\nthe table of {name}, resized\n')
    print('| grid | kernel | error of similarities | cosine of a row | norm |')
    print('|---|---|---|---|---|')
    for d in table:
        grid = f'{d.grid[0]}x{d.grid[1]}'
        print(f'| {grid} | {d.kernel} | {d.error:.3f} | {d.kept:.3f} | {d.norm_ratio:.2f} |')


if __name__ == '__main__':
    main()

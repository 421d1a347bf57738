#!/usr/bin/env python
"""Makes the sample data set and a picture of it; does nothing if it is there already."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpvg.datasets.sample import draw_preview, make_sample_dataset
from mmpvg.utils.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('data/sample'), help='folder to make')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same bytes')
    parser.add_argument('--num-train', type=int, default=320, help='training images')
    parser.add_argument('--num-val', type=int, default=80, help='validation images')
    parser.add_argument(
        '--force', action='store_true', help='replace a data set made with other arguments'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        made = make_sample_dataset(args.out, args.num_train, args.num_val, args.seed, args.force)
    except (UserError, OSError, ModuleNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    preview = made.out_dir / 'preview.png'
    if not preview.exists():
        draw_preview(made.out_dir, preview)

    print('made' if made.created else 'already there:', made.out_dir)
    for split, count in made.images.items():
        objects = ', '.join(f'{name} {n}' for name, n in made.objects[split].items())
        print(f'  {split}: {count} images; {objects}')
    print('  picture:', preview)
    return 0


if __name__ == '__main__':
    sys.exit(main())

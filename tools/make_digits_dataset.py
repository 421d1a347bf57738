#!/usr/bin/env python
"""Makes the digits data set for the classification samples; does nothing if it is there already."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmpvg.datasets.sample import make_digits_dataset
from mmpvg.utils.errors import UserError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('data/digits'), help='folder to make')
    parser.add_argument('--scale', type=int, default=4, help='enlargement of the 8x8 images')
    parser.add_argument('--seed', type=int, default=0, help='which fifth is for validation')
    parser.add_argument('--force', action='store_true', help='replace one made otherwise')
    args = parser.parse_args()
    try:
        counts = make_digits_dataset(args.out, args.scale, args.seed, args.force)
    except (UserError, OSError, ImportError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: {counts["train"]} images to train on, {counts["val"]} to validate on')
    return 0


if __name__ == '__main__':
    sys.exit(main())

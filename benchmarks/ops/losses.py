"""Losses of the first iterations with either set of operators, on one seed.

    python -m benchmarks.ops.losses configs/sample/mask_rcnn_vit_mpvg_sample.py

Needs a compiled mmcv, in the environment or as a ready wheel in a folder that PIP_FIND_LINKS names,
and the sample data. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from mmengine.config import Config

from mmpvg.ops import extension

from .compiled import load_compiled
from .first_losses import first_losses


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+')
    parser.add_argument('--iterations', type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compiled, where = load_compiled(Path(folder))
        if compiled is None:
            sys.exit(where)
        print('| Config | Iterations | Loss of the last | Largest difference |')
        print('|---|---|---|---|')
        for path in args.configs:
            cfg = Config.fromfile(path)
            ours, theirs = (
                first_losses(cfg, ext, args.iterations) for ext in (extension, compiled)
            )
            apart = max(abs(a[name] - b[name]) for a, b in zip(ours, theirs) for name in b)
            last = theirs[-1]['loss']
            print(f'| {Path(path).stem} | {len(theirs)} | {last:.4f} | {apart:.1e} |', flush=True)


if __name__ == '__main__':
    main()

r"""How the position embedding counterbalances the tokens, block by block, of one or several models.

    python tools/analysis_tools/counterbalance.py IMAGES --model CONFIG CHECKPOINT \
        [--model CONFIG CHECKPOINT ...] [--names A B ...] --out work_dirs/counterbalance

IMAGES is a folder or an image. Draws the correlation of token embedding and PE against depth, both
as heat maps, and the tokens before and after the last norm; the numbers are written beside each
picture.
"""

import argparse
import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmpvg.analysis.counterbalance import measure_counterbalance
from mmpvg.analysis.inspection_arguments import (
    add_inspection_arguments,
    batches_of,
    opened_models,
)
from mmpvg.analysis.plots import (
    draw_counterbalance,
    draw_embedding_maps,
    draw_last_norms,
)
from mmpvg.utils.command_line import size_of, user_errors

SIZE_HELP = 'images are stretched to it; the size of the PE table of each model if not said'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_inspection_arguments(parser, 'work_dirs/counterbalance')
    parser.add_argument('--size', type=size_of, metavar='HxW', help=SIZE_HELP)
    args = parser.parse_args()

    with user_errors(parser):
        look(args)


def look(args: argparse.Namespace) -> None:
    results = {}
    for model in opened_models(args):
        size = args.size or model.native_size
        result = measure_counterbalance(model.vit, batches_of(args, model, size))
        results[model.name] = result
        # As they come, so that a later failure loses nothing.
        stem = f'embeddings_{model.name}'
        print('wrote', draw_embedding_maps(result, args.out / f'{stem}.png'))
        pes = {f'pe_{block}': pe for block, pe in enumerate(result.pes) if pe is not None}
        embeddings = result.embeddings.astype('float32')
        np.savez_compressed(args.out / f'{stem}.npz', embeddings=embeddings, **pes)
        write_numbers(args.out, results)
    print('wrote', draw_counterbalance(results, args.out / 'correlation.png'))
    print('wrote', draw_last_norms(results, args.out / 'last_norm.png'))

    print(
        '\n| model | correlation, by block | of tokens averaged first | bias variance | '
        'cosine at the last norm |'
    )
    print('|---|---|---|---|---|')
    for name, result in results.items():
        curves = ' | '.join(
            ' '.join('-' if np.isnan(value) else f'{value:+.3f}' for value in values)
            for values in (result.delivered.mean(0), result.averaged)
        )
        end = result.last_norm
        variance = '-' if end.bias_variance is None else f'{end.bias_variance:.2e}'
        print(f'| {name} | {curves} | {variance} | {end.cosine.mean():.3f} |')


def write_numbers(out: Path, results: dict) -> None:
    with (out / 'correlation.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['model', 'grid', 'block', 'with', 'mean', 'spread over images', 'images'])
        for name, result in results.items():
            grid = f'{result.grid[0]}x{result.grid[1]}'
            for kind in ('delivered', 'table'):
                values = getattr(result, kind)
                for block, (mean, spread) in enumerate(zip(values.mean(0), values.std(0))):
                    rows.writerow([name, grid, block, kind, mean, spread, len(values)])
                first = result.averaged if kind == 'delivered' else result.averaged_table
                for block, value in enumerate(first):
                    what = f'{kind}, tokens averaged first'
                    rows.writerow([name, grid, block, what, value, '', len(values)])
    ends = {
        name: {k: np.asarray(v).tolist() for k, v in asdict(result.last_norm).items()}
        for name, result in results.items()
    }
    (out / 'last_norm.json').write_text(json.dumps(ends))


if __name__ == '__main__':
    main()

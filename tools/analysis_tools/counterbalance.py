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

import numpy as np

from mmpvg.analysis import measure_counterbalance
from mmpvg.analysis.inspection_arguments import (
    add_inspection_arguments,
    batches_of,
    opened_models,
    size_of,
)
from mmpvg.visualization import draw_counterbalance, draw_embedding_maps, draw_last_norms


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_inspection_arguments(parser, 'work_dirs/counterbalance')
    parser.add_argument('--size', type=size_of, metavar='HxW', help='of the images, in pixels')
    args = parser.parse_args()

    results = {}
    for model in opened_models(parser, args):
        size = args.size or model.native_size
        results[model.name] = measure_counterbalance(model.vit, batches_of(args, model, size))

    out = args.out
    print('wrote', draw_counterbalance(results, out / 'correlation.png'))
    with (out / 'correlation.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['model', 'block', 'with', 'mean', 'spread over images', 'images'])
        for name, result in results.items():
            for kind in ('delivered', 'table'):
                values = getattr(result, kind)
                for block, (mean, spread) in enumerate(zip(values.mean(0), values.std(0))):
                    rows.writerow([name, block, kind, mean, spread, len(values)])
    print('wrote', draw_last_norms(results, out / 'last_norm.png'))
    ends = {
        name: {k: np.asarray(v).tolist() for k, v in asdict(result.last_norm).items()}
        for name, result in results.items()
    }
    (out / 'last_norm.json').write_text(json.dumps(ends))
    for name, result in results.items():
        print('wrote', draw_embedding_maps(result, out / f'embeddings_{name}.png'))
        pes = {f'pe_{block}': pe for block, pe in enumerate(result.pes) if pe is not None}
        np.savez_compressed(
            out / f'embeddings_{name}.npz', embeddings=result.embeddings.astype('float32'), **pes
        )

    print('\n| model | correlation, by block | bias variance | cosine at the last norm |')
    print('|---|---|---|---|')
    for name, result in results.items():
        means = result.delivered.mean(0)
        curve = ' '.join('-' if np.isnan(mean) else f'{mean:+.3f}' for mean in means)
        end = result.last_norm
        variance = '-' if end.bias_variance is None else f'{end.bias_variance:.2e}'
        print(f'| {name} | {curve} | {variance} | {end.cosine.mean():.3f} |')


if __name__ == '__main__':
    main()

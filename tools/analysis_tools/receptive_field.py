r"""The effective receptive field of models: of every block, at several sizes, without the PE too.

    python tools/analysis_tools/receptive_field.py IMAGES --model CONFIG CHECKPOINT \
        [--model CONFIG CHECKPOINT ...] [--names A B ...] [--sizes 224x224 320x512] \
        --out work_dirs/receptive_field

The gradient of the center token's channel mean with respect to the image, negative values cut,
summed over the images, and the Gaussian that fits it. With the PE as it is, zeroed, and
re-initialized, and with relative positions dropped and re-initialized, where a network has them.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmpvg.analysis.inspection_arguments import (
    add_inspection_arguments,
    batches_of,
    opened_models,
)
from mmpvg.analysis.pe_states import PE_STATES, states_of
from mmpvg.analysis.plots import draw_field_curves, draw_fields, label_of
from mmpvg.analysis.receptive_field import (
    learned_gaussians,
    measure_fields,
    places_of,
)
from mmpvg.utils.command_line import size_of, user_errors

COLUMNS = (
    'model height width pe place sigma_y sigma_x sigma_y_patches sigma_x_patches '
    'center_y center_x amplitude r_squared outside_own_patch spread_y spread_x'
).split()

SIZES_HELP = 'images are stretched to each; the size of the PE table if not said'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_inspection_arguments(parser, 'work_dirs/receptive_field')
    parser.add_argument('--sizes', nargs='+', type=size_of, metavar='HxW', help=SIZES_HELP)
    parser.add_argument('--states', nargs='+', choices=PE_STATES, default=PE_STATES)
    args = parser.parse_args()

    with user_errors(parser):
        look(args)


def look(args: argparse.Namespace) -> None:
    # First used after minutes of gradients: better to miss it now.
    import scipy.optimize  # noqa: F401

    fields, learned, patch_sizes = {}, {}, {}
    for model in opened_models(args):
        sizes, states = args.sizes or [model.native_size], states_of(model.vit, args.states)
        if not states:
            print(f'{model.name} can have none of these --states: left out', file=sys.stderr)
            continue
        measured = measure_fields(
            model,
            lambda size, state, model=model: batches_of(
                args, model, size, f'{size[0]}x{size[1]}, {label_of(state)}'
            ),
            sizes,
            states,
        )
        patch_sizes[model.name] = model.vit.patch_embed.patch_size
        learned[model.name] = learned_gaussians(model.vit)
        number = len(sizes) * len(states) * len(places_of(model))
        fields[model.name] = list(tqdm(measured, model.name, number, unit='field'))
        for size in dict.fromkeys(field.size for field in fields[model.name]):
            chosen = [field for field in fields[model.name] if field.size == size]
            title = f'{model.name}, {size[0]}x{size[1]}'
            stem = f'{model.name}_{size[0]}x{size[1]}'
            print('wrote', draw_fields(chosen, args.out / f'fields_{stem}.png', title))
            maps = {f'{f.state}, {f.place}': f.field.astype('float32') for f in chosen}
            np.savez_compressed(args.out / f'fields_{stem}.npz', **maps)
        _write_fields(args.out / 'fields.csv', fields, patch_sizes)
    if not fields:
        return
    curves = draw_field_curves(fields, learned, patch_sizes, args.out / 'fields.png')
    print('wrote', curves, 'and', args.out / 'fields.csv')
    if any(learned.values()):
        _write_gaussians(args.out / 'gaussian_bias.csv', learned)


def _write_fields(path: Path, fields: dict, patch_sizes: dict) -> None:
    with path.open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for name, every in fields.items():
            for f in every:
                patches = [sigma / patch_sizes[name] for sigma in f.fit.sigma]
                fit = (*f.fit.sigma, *patches, *f.fit.center, f.fit.amplitude, f.fit.r_squared)
                rows.writerow([name, *f.size, f.state, f.place, *fit, f.outside, *f.spread])


def _write_gaussians(path: Path, learned: dict) -> None:
    print('\n| model | block | a of the Gaussian bias | sigma (patches) |\n|---|---|---|---|')
    with path.open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['model', 'block', 'head', 'a', 'sigma (patches)'])
        for name, biases in learned.items():
            for bias in biases:
                for head, values in enumerate(zip(bias.amplitude, bias.sigma)):
                    rows.writerow([name, bias.block, head, *values])
                a, sigma = (
                    ', '.join(f'{value:.2f}' for value in values)
                    for values in (bias.amplitude, bias.sigma)
                )
                print(f'| {name} | {bias.block} | {a} | {sigma} |')


if __name__ == '__main__':
    main()

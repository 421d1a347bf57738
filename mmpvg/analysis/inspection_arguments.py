"""Arguments, models and images of the scripts that analyze models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import DictAction
from torch import Tensor
from tqdm import tqdm

from mmpvg.datasets.checked_loading import BrokenSampleError
from mmpvg.engine.config.host import check_device
from mmpvg.utils.command_line import make_folder, positive
from mmpvg.utils.errors import MissingFileError, UserError

from .inspection import InspectedModel, image_files, open_model


def add_inspection_arguments(
    parser: argparse.ArgumentParser, out: str, images: bool = True
) -> None:
    """Add the arguments that choose models and images.

    Args:
        parser: The script's.
        out: Default of ``--out``.
        images: Whether the script takes images.
    """
    if images:
        parser.add_argument('images', type=Path, help='a folder of images, or one image')
        parser.add_argument(
            '--num-images', type=positive, default=32, help='at most (%(default)s), spread evenly'
        )
        parser.add_argument('--batch-size', type=positive, default=4, help='images at a time')
    parser.add_argument(
        '--model',
        nargs=2,
        action='append',
        required=True,
        metavar=('CONFIG', 'CHECKPOINT'),
        help="a model to look at; 'none' as the checkpoint for the untrained one",
    )
    parser.add_argument('--names', nargs='+', help='a name for each model')
    parser.add_argument('--out', type=Path, default=Path(out), help='folder for what is written')
    parser.add_argument('--device', default='cpu', help="for instance 'cuda'")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE, for all')


def opened_models(args: argparse.Namespace) -> Iterator[InspectedModel]:
    """Open the models that the arguments name, one after the other.

    Raises:
        UserError: If a file is missing, before the first is opened; if names are missing, equal or
            no names of files; if there is no such device; or if ``--out`` is a file or the folder
            of the images.
    """
    names = args.names or [Path(config).stem for config, _ in args.model]
    if len(names) != len(args.model):
        raise UserError(
            f'{len(args.model)} models need {len(args.model)} --names, got {len(names)}'
        )
    if len(set(names)) != len(names):
        raise UserError(f'models need --names of their own, got {", ".join(names)}')
    if slashed := [name for name in names if '/' in name]:
        raise UserError(f'--names become names of files, which {slashed[0]!r} cannot be')
    for path in (path for files in args.model for path in files):
        if path != 'none' and '://' not in path and not Path(path).is_file():
            raise MissingFileError(f'{path} does not exist')
    if 'images' in args and args.images.resolve() == args.out.resolve():
        raise UserError(f'{args.out} is the folder of the images; give another --out')
    check_device(args.device)
    make_folder(args.out)
    for name, (config, checkpoint) in zip(names, args.model):
        yield open_model(config, checkpoint, args.cfg_options, name, args.device)


def batches_of(
    args: argparse.Namespace, model: InspectedModel, size: tuple[int, int], within: str = ''
) -> Iterator[Tensor]:
    """Yield the images that the arguments name, in batches, with a progress bar.

    A file that cannot be read is named, and the others go on.

    Args:
        args: Parsed arguments.
        model: The model that takes them.
        size: (H, W) in pixels.
        within: Label of an inner progress bar; empty for an outer one.
    """
    files = image_files(args.images, args.num_images, left_out=args.out)
    look = dict(desc=within, position=1, leave=False) if within else dict(desc=model.name)
    with tqdm(total=len(files), unit='image', **look) as bar:
        for start in range(0, len(files), args.batch_size):
            chosen = files[start : start + args.batch_size]
            images = []
            for file in chosen:
                try:
                    images.append(model.read_images([file], tuple(size)))
                except BrokenSampleError as error:
                    bar.write(f'left out: {error}', file=sys.stderr)
            if images:
                yield torch.cat(images)
            bar.update(len(chosen))

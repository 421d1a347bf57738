"""Make pictures small enough for documents: ``shrink_pictures.py OUT PICTURE [PICTURE ...]``.

With --sheet they become one: rows of --columns, each enlarged --scale times.
"""

import argparse
from pathlib import Path

from PIL import Image

_GAP = 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder for the small ones')
    parser.add_argument('pictures', nargs='+', type=Path)
    parser.add_argument('--width', type=int, default=1300, help='pixels at most')
    parser.add_argument('--colors', type=int, default=64, help='colors that are left')
    parser.add_argument('--sheet', metavar='NAME', help='put all into one picture of this name')
    parser.add_argument('--columns', type=int, default=4, help='of a sheet')
    parser.add_argument('--scale', type=int, default=1, help='of a sheet')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    images = {path.name: _read(path) for path in args.pictures}
    if args.sheet:
        images = {args.sheet: _sheet([_read(p) for p in args.pictures], args.columns, args.scale)}
    for name, image in images.items():
        if image.width > args.width:
            height = round(image.height * args.width / image.width)
            image = image.resize((args.width, height), Image.Resampling.LANCZOS)
        small = args.out / name
        image.quantize(args.colors, dither=Image.Dither.NONE).save(small, optimize=True)
        print('wrote', small, f'({small.stat().st_size / 1e3:.0f} kB)')


def _read(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert('RGB')


def _sheet(images: list[Image.Image], columns: int, scale: int) -> Image.Image:
    """The pictures in cells of one size."""
    width = max(image.width for image in images) * scale + _GAP
    height = max(image.height for image in images) * scale + _GAP
    rows = -(-len(images) // columns)
    sheet = Image.new('RGB', (columns * width - _GAP, rows * height - _GAP), 'white')
    for index, image in enumerate(images):
        large = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
        row, column = divmod(index, columns)
        sheet.paste(large, (column * width, row * height))
    return sheet


if __name__ == '__main__':
    main()

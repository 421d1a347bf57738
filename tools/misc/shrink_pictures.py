"""Make pictures small enough for documents: ``shrink_pictures.py OUT PICTURE [PICTURE ...]``."""

import argparse
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder for the small ones')
    parser.add_argument('pictures', nargs='+', type=Path)
    parser.add_argument('--width', type=int, default=1300, help='pixels at most')
    parser.add_argument('--colours', type=int, default=64, help='colours that are left')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in args.pictures:
        with Image.open(path) as file:
            image = file.convert('RGB')
        if image.width > args.width:
            height = round(image.height * args.width / image.width)
            image = image.resize((args.width, height), Image.Resampling.LANCZOS)
        small = args.out / path.name
        image.quantize(args.colours, dither=Image.Dither.NONE).save(small, optimize=True)
        print('wrote', small, f'({small.stat().st_size / 1e3:.0f} kB)')


if __name__ == '__main__':
    main()

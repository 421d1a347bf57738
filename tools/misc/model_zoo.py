"""Print the table of models from the configs, and keep the metafiles and READMEs by it.

    python tools/misc/model_zoo.py mask_rcnn upernet     # print
    python tools/misc/model_zoo.py --update              # write metafile.yml and README.md of all

What a config tells (parameters, multiply-adds, schedule, batch, start) is taken from the config.
Published figures, and what was measured, are kept by hand in metafile.yml, and so are the rows of
a config with options (`Options: {model.backbone.pe_delivery: lape}`). Multiply-adds are counted
once for models that differ in nothing that costs; --count counts those again that metafile.yml has.
"""

import argparse
import sys
from pathlib import Path

import yaml

from mmpvg.analysis.model_zoo import SHAPES, format_table, update_metafile

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
START, END = '<!-- models: written by tools/misc/model_zoo.py -->', '<!-- end of models -->'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folders', nargs='*', help=f'of {", ".join(SHAPES)}; all by default')
    parser.add_argument('--update', action='store_true', help='write metafile.yml and README.md')
    parser.add_argument('--count', action='store_true', help='count all multiply-adds again')
    args = parser.parse_args()
    if unknown := set(args.folders) - set(SHAPES):
        parser.error(f'no models in {", ".join(sorted(unknown))}; choose {", ".join(SHAPES)}')
    for name in args.folders or SHAPES:
        folder = CONFIGS / name
        file = folder / 'metafile.yml'
        metafile = update_metafile(folder, yaml.safe_load(file.read_text()), args.count, show)
        table = format_table(metafile)
        print(f'\n## {name}\n\n{table}')
        if args.update:
            file.write_text(yaml.safe_dump(metafile, sort_keys=False, width=100))
            write_table(folder / 'README.md', table)


def show(done: int, of: int, name: str) -> None:
    print(f'\r{done}/{of} {name:<80}', end='' if done < of else '\n', file=sys.stderr, flush=True)


def write_table(readme: Path, table: str) -> None:
    """Put the table between the two marks of a README."""
    text = readme.read_text()
    if START not in text or END not in text:
        sys.exit(f'{readme} lacks the marks {START!r} and {END!r}, between which the table goes')
    before, after = text.split(START)[0], text.split(END)[1]
    readme.write_text(f'{before}{START}\n\n{table}\n\n{END}{after}')


if __name__ == '__main__':
    main()

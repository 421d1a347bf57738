"""Look through the data of a config for what training would meet, before it does.

    python tools/misc/check_dataset.py CONFIG

Loads every image with its annotations, and prints what is broken, how often, and what training
would do about it. The exit status is 1 if there is anything.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar

from mmpvg.datasets.checks.decode import check_dataset
from mmpvg.datasets.checks.finding import EFFECTS, Finding, summarize_findings
from mmpvg.engine.config_model import read_config
from mmpvg.engine.data_formats import refuse_code_in_data
from mmpvg.engine.preflight import datasets_in
from mmpvg.utils.command_line import told_by
from mmpvg.visualization import draw_findings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train')
    parser.add_argument('--jobs', type=int, default=2, help='processes that load')
    parser.add_argument('--out', type=Path, help='folder for all findings and a picture of some')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = parser.parse_args()
    with told_by(parser):
        cfg = read_config(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        refuse_code_in_data(cfg, args.split)
    init_default_scope(cfg.get('default_scope', 'mmengine'))

    findings = list(_look(cfg, args.split, args.jobs))
    if not findings:
        print('\nnothing is wrong')
        return
    print('\n| problem | training | findings | images | example |\n|---|---|---|---|---|')
    for problem, effect, number, images, example in summarize_findings(findings):
        print(f'| {problem} | {EFFECTS[effect]} | {number} | {images} | {example} |')
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / 'findings.csv').open('w', newline='', encoding='utf-8') as file:
            rows = csv.writer(file)
            rows.writerow(['image', 'problem', 'detail', 'effect'])
            rows.writerows((f.path, f.problem, f.detail, EFFECTS[f.effect]) for f in findings)
        picture = draw_findings(findings, args.out / 'findings.png')
        print('\nwrote', args.out / 'findings.csv', 'and', picture)
    sys.exit(1)


def _look(cfg: Config, split: str, jobs: int) -> Iterator[Finding]:
    for key, config in datasets_in(cfg[f'{split}_dataloader'], f'{split}_dataloader'):
        print(f'{key}:', file=sys.stderr)
        bar = None
        for done, total, found in check_dataset(config, jobs):
            bar = bar or ProgressBar(total, file=sys.stderr)
            # Not for each of a hundred thousand images: a log may stand behind.
            if done and (done % max(1, total // 200) == 0 or done == total):
                bar.update(done - bar.completed)
            yield from found


if __name__ == '__main__':
    main()

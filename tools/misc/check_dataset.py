"""Check the data of a config before training.

    python tools/misc/check_dataset.py CONFIG

Reads annotation files, label maps and the header of each image, and prints what is wrong, how
often, and with which effect. --decode loads each image as training does. The exit status is 1 if
anything is wrong.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mmpvg.datasets.checks.audit import audit
from mmpvg.datasets.checks.finding import EFFECTS, Audit, summarize_findings
from mmpvg.datasets.checks.finding_sheet import draw_findings
from mmpvg.engine.config.config_model import read_config
from mmpvg.engine.config.preflight import refuse_code_in_data
from mmpvg.utils.command_line import positive, user_errors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val']
    )
    parser.add_argument('--decode', action='store_true', help='load each image as training does')
    parser.add_argument('--jobs', type=positive, default=2, help='processes that read images')
    parser.add_argument(
        '--out', type=Path, help='folder for a table of all findings and a picture of some'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='KEY=VALUE')
    args = parser.parse_args()
    with user_errors(parser):
        cfg = read_config(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        refuse_code_in_data(cfg, *args.split)
    init_default_scope(cfg.get('default_scope', 'mmengine'))

    depth = 'pixels' if args.decode else 'headers'
    audits = list(audit(cfg, args.split, depth, args.jobs, _Progress()))
    _print_counts(audits)
    _print_findings(audits)
    findings = [finding for result in audits for finding in result.wrong]
    if args.out and findings:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / 'findings.csv').open('w', newline='', encoding='utf-8') as file:
            rows = csv.writer(file)
            rows.writerow(['image', 'problem', 'detail', 'effect'])
            rows.writerows((f.path, f.problem, f.detail, EFFECTS[f.effect]) for f in findings)
        draw_findings(findings, args.out / 'findings.png')
        print('\nwrote', args.out / 'findings.csv', 'and', args.out / 'findings.png')
    if findings:
        sys.exit(1)


class _Progress:
    """Prints what is read, at most a line every ten seconds."""

    def __init__(self) -> None:
        self.what, self.last = '', 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what == self.what and done < total and now - self.last < 10:
            return
        self.what, self.last = what, now
        print(what, f'{done} of {total}' if total else '...', file=sys.stderr, flush=True)


def _print_counts(audits: list[Audit]) -> None:
    print()
    for result in audits:
        if result.images:
            print(result.describe_counts())
    counted = [result for result in audits if result.counts]
    names = dict.fromkeys(name for result in counted for name in result.counts)
    if names:
        print('\n| class |', ' | '.join(result.key for result in counted), '|')
        print('|---|' + '---|' * len(counted))
        for name in names:
            numbers = (str(result.counts.get(name, '')) for result in counted)
            print(f'| {name} |', ' | '.join(numbers), '|')


def _print_findings(audits: list[Audit]) -> None:
    for title, chosen in (
        ('problem', [finding for result in audits for finding in result.wrong]),
        ('note', [f for result in audits for f in result.findings if f.effect == 'noted']),
    ):
        if title == 'problem' and not chosen:
            print('\nnothing is wrong')
        if not chosen:
            continue
        print(f'\n| {title} | effect | findings | images | example |\n|---|---|---|---|---|')
        for problem, effect, number, images, example in summarize_findings(chosen):
            print(f'| {problem} | {EFFECTS[effect]} | {number} | {images} | {example} |')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)

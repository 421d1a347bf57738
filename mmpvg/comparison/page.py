"""A page that shows two checkpoints side by side."""

from __future__ import annotations

import os.path as osp
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from mmengine.structures import BaseDataElement
from mmengine.utils import ProgressBar

from mmpvg.apis.sample_painter import SamplePainter, predict
from mmpvg.utils.whole_file import write_whole

from .candidates import same_test_set
from .comparison import Comparison, ImagePair, Pair
from .difference_chart import draw_differences
from .html_page import legend, page, picture, table

# Images are enlarged by a whole number to about this many pixels, for sharp labels on small ones.
_SIDE = 400


def write_comparison_page(
    comparison: Comparison, out: str | Path, num_images: int = 24, command: str = ''
) -> Path:
    """Write one HTML file with the numbers, and the images on which the two differ most.

    These images are predicted again, one by one.

    Args:
        comparison: What :func:`mmpvg.analysis.compare` gave.
        out: HTML file to write.
        num_images: Images to show, half of them where B gains most, half where it loses most.
        command: What made the page, to be told there.

    Returns:
        ``out``.
    """
    a, b = comparison.candidates
    painter = SamplePainter(a.cfg, a.dataset.metainfo, comparison.score_thr)
    gains, losses = comparison.extremes(num_images)
    panels = _panels(comparison, painter, [*gains, *losses])
    parts = [
        _header(comparison, command),
        '<h2>The whole test set</h2>\n',
        f'<p>Differences are {escape(b.name)} − {escape(a.name)}. ▲ stands at the better, higher '
        'value, – where there was nothing to measure.</p>\n',
        _tables(comparison),
        '<h2>Image by image</h2>\n',
        _overview(comparison, [*gains, *losses]),
        legend(painter.class_colours),
    ]
    for title, shown, known in (
        (f'Where {b.name} gains most', gains, comparison.gains),
        (f'Where {b.name} loses most', losses, comparison.losses),
    ):
        parts.append(f'<h2>{escape(title)}: {len(shown)} of {len(known)} images</h2>\n')
        parts += [next(panels) for _ in shown]
    title = f'{a.name} and {b.name} on {len(comparison.images)} test images'
    write_whole(out, page(title, ''.join(parts)))
    return Path(out)


def _header(comparison: Comparison, command: str) -> str:
    a, b = comparison.candidates
    rows = [
        ('config', *(f'<code>{escape(each.config)}</code>' for each in (a, b))),
        ('checkpoint', *(f'<code>{escape(each.checkpoint)}</code>' for each in (a, b))),
    ]
    test_set = 'that of both configs'
    if not same_test_set(a.cfg, b.cfg):
        test_set = f'that of {a.config}, not the other one of {b.config}'
    told = [
        table('What is compared', ('', a.name, b.name), rows, words=True),
        f'<p>The test set is {escape(test_set)}. The {escape(comparison.score.name)} of an '
        f'image is {escape(comparison.score.description)}.</p>\n',
    ]
    if command:
        told.append(f'<pre><code>{escape(command)}</code></pre>\n')
    return ''.join(told)


def _tables(comparison: Comparison) -> str:
    head = ('', *(candidate.name for candidate in comparison.candidates), 'difference')
    whole = table('Metrics, as tools/test.py gives them', head, _rows(comparison.metrics))
    by_class = ''.join(
        table(f'{metric} by class', head, _rows(pairs))
        for metric, pairs in comparison.by_class.items()
    )
    return f'<div class="tables">\n<div>{whole}</div>\n<div>{by_class}</div>\n</div>\n'


def _rows(pairs: Mapping[str, Pair]) -> list[tuple[str, ...]]:
    known = [abs(x) for pair in pairs.values() for x in (pair.a, pair.b) if x is not None]
    digits = 3 if max(known, default=0) <= 1 else 2
    return [(name, *_cells(pair, digits)) for name, pair in pairs.items()]


def _cells(pair: Pair, digits: int) -> list[str]:
    difference = pair.difference
    cells = []
    for value, sign in ((pair.a, -1), (pair.b, 1)):
        cell = '–' if value is None else f'{value:.{digits}f}'
        if difference is not None and sign * difference > 0:
            cell = f'<strong>{cell} <span title="better">▲</span></strong>'
        cells.append(cell)
    return [*cells, '–' if difference is None else _signed(difference, digits)]


def _overview(comparison: Comparison, shown: Sequence[ImagePair]) -> str:
    """The differences of all images, in a chart and in words."""
    a, b = (candidate.name for candidate in comparison.candidates)
    known = [image.score.difference for image in comparison.images]
    known = [difference for difference in known if difference is not None]
    if not known:
        return '<p>No image has a score.</p>\n'
    gains, losses = len(comparison.gains), len(comparison.losses)
    words = (
        f'All {len(known)} images: {b} is better on {gains}, {a} on {losses}, and they are equal '
        f'on {len(known) - gains - losses}. '
    )
    if unscored := len(comparison.images) - len(known):
        words += f'{unscored} more have no score. '
    words += (
        'The gray bar is around zero. '
        f'Pictured below are the {len(shown)} that differ most in either direction (ticks), so '
        'they do not stand for the whole; images.csv has the scores of all.'
    )
    marked = [image.score.difference for image in shown]
    chart = draw_differences(known, marked, (a, b), comparison.score.name)
    return f'<figure class="chart">\n{chart}<figcaption>{escape(words)}</figcaption>\n</figure>\n'


def _panels(
    comparison: Comparison, painter: SamplePainter, images: Sequence[ImagePair]
) -> Iterator[str]:
    """Each image, its ground truth and both predictions, with a progress bar over all."""
    root = osp.commonpath([osp.dirname(image.path) for image in comparison.images])
    score = comparison.score
    bar = ProgressBar(len(images), file=sys.stderr) if images else None
    for image in images:
        samples = [predict(each.model, each.dataset, image.index) for each in comparison.candidates]
        name, scale = osp.relpath(image.path, root), _enlargement(painter, samples[0])
        truth = painter.ground_truth(samples[0], scale)
        panels = [
            picture(painter.image(samples[0], scale), name, 'image'),
            picture(truth, f'{name} with its ground truth', 'ground truth'),
        ]
        values = (image.score.a, image.score.b)
        for candidate, sample, value in zip(comparison.candidates, samples, values):
            told = f'{candidate.name}: {score.name} {value:.{score.digits}f}'
            drawn = painter.prediction(sample, scale)
            panels.append(picture(drawn, f'{name} with the prediction of {told}', told))
        difference = _signed(image.score.difference, score.digits)
        bar.update()
        yield (
            f'<article class="shown">\n<h3>{escape(name)}: {escape(score.name)} {difference}</h3>\n'
            f'<div class="panels">\n{"".join(panels)}</div>\n</article>\n'
        )


def _enlargement(painter: SamplePainter, sample: BaseDataElement) -> int:
    return max(1, round(_SIDE / max(painter.image(sample).size)))


def _signed(value: float, digits: int) -> str:
    """A difference with its sign; without one if nothing is left of it."""
    told = f'{value:+.{digits}f}'
    return told.replace('-', '−') if float(told) else told[1:]

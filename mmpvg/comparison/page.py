"""An HTML page that shows two checkpoints side by side."""

from __future__ import annotations

import os.path as osp
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from mmengine.structures import BaseDataElement
from mmengine.utils import ProgressBar

from mmpvg.apis.sample_painter import SamplePainter, predict
from mmpvg.utils.whole_file import write_whole

from .candidates import same_test_set
from .comparison import Comparison, ImagePair, Pair
from .pictures import describe_differences, draw_differences, embed_figure, embed_picture

# Images are enlarged by a whole number to about this many pixels, for sharp labels on small ones.
_SIDE = 400


def write_comparison_page(
    comparison: Comparison, out: str | Path, num_images: int = 24, command: str = ''
) -> Path:
    """Write one HTML file with the numbers, and the images on which the two differ most.

    These images are predicted again, one by one.

    Args:
        comparison: Of ``mmpvg.comparison.comparison.compare``.
        out: HTML file to write; its path is returned.
        num_images: Images to show, half of them where B gains most, half where it loses most.
        command: Command line that makes the page, shown on it.
    """
    a, b = comparison.candidates
    painter = SamplePainter(a.cfg, a.dataset.metainfo, comparison.score_thr)
    gains, losses = comparison.extremes(num_images)
    images = _images(comparison, painter, [*gains, *losses])
    same = same_test_set(a.cfg, b.cfg)
    text = _template().render(
        title=f'{a.name} and {b.name} on {len(comparison.images)} test images',
        a=a,
        b=b,
        command=command,
        test_set='that of both configs'
        if same
        else f'that of {a.config}, not the other one of {b.config}',
        score=comparison.score,
        whole=_rows(comparison.metrics),
        by_class={
            f'{metric} by class': _rows(pairs) for metric, pairs in comparison.by_class.items()
        },
        chart=_chart(comparison, [*gains, *losses]),
        legend=painter.class_colors,
        sections=[
            dict(
                title=f'Where {b.name} {verb} most: {len(shown)} of {len(known)} images',
                images=[next(images) for _ in shown],
            )
            for verb, shown, known in (
                ('gains', gains, comparison.gains),
                ('loses', losses, comparison.losses),
            )
        ],
    )
    write_whole(out, text)
    return Path(out)


def _template() -> Template:
    # Names of models, classes and files are text, whatever they hold.
    environment = Environment(
        loader=PackageLoader('mmpvg.comparison'), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template('comparison.html')


def _rows(pairs: Mapping[str, Pair]) -> list[dict]:
    known = [abs(x) for pair in pairs.values() for x in (pair.a, pair.b) if x is not None]
    digits = 3 if max(known, default=0) <= 1 else 2
    rows = []
    for name, pair in pairs.items():
        gain = pair.difference
        cells = [
            (_value(value, digits), gain is not None and sign * gain > 0)
            for value, sign in ((pair.a, -1), (pair.b, 1))
        ]
        difference = '–' if gain is None else _signed(gain, digits)
        rows.append(dict(name=name, cells=cells, difference=difference))
    return rows


def _value(value: float | None, digits: int) -> str:
    return '–' if value is None else f'{value:.{digits}f}'


def _chart(comparison: Comparison, shown: Sequence[ImagePair]) -> dict | None:
    """Draw and describe the differences of all images; None if no image has a score."""
    a, b = names = tuple(candidate.name for candidate in comparison.candidates)
    known = [image.score.difference for image in comparison.images]
    known = [difference for difference in known if difference is not None]
    if not known:
        return None
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
        'they do not represent the whole; images.csv has the scores of all.'
    )
    marked = [image.score.difference for image in shown]
    unit = comparison.score.name
    return dict(
        source=embed_figure(draw_differences(known, marked, names, unit)),
        alt=describe_differences(known, names, unit),
        caption=words,
    )


def _images(
    comparison: Comparison, painter: SamplePainter, images: Sequence[ImagePair]
) -> Iterator[dict]:
    """Yield each image, its ground truth and both predictions, with a progress bar over all."""
    root = osp.commonpath([osp.dirname(image.path) for image in comparison.images])
    score = comparison.score
    bar = ProgressBar(len(images), file=sys.stderr) if images else None
    for image in images:
        samples = [predict(each.model, each.dataset, image.index) for each in comparison.candidates]
        name, scale = osp.relpath(image.path, root), _enlargement(painter, samples[0])
        truth = painter.ground_truth(samples[0], scale)
        panels = [
            embed_picture(painter.image(samples[0], scale), name, 'image'),
            embed_picture(truth, f'{name} with its ground truth', 'ground truth'),
        ]
        values = (image.score.a, image.score.b)
        for candidate, sample, value in zip(comparison.candidates, samples, values):
            caption = f'{candidate.name}: {score.name} {value:.{score.digits}f}'
            drawn = painter.prediction(sample, scale)
            alt = f'{name} with the prediction of {caption}'
            panels.append(embed_picture(drawn, alt, caption))
        difference = _signed(image.score.difference, score.digits)
        bar.update()
        yield dict(title=f'{name}: {score.name} {difference}', panels=panels)


def _enlargement(painter: SamplePainter, sample: BaseDataElement) -> int:
    return max(1, round(_SIDE / max(painter.image(sample).size)))


def _signed(value: float, digits: int) -> str:
    """A difference with its sign; without one if nothing is left of it."""
    shown = f'{value:+.{digits}f}'
    return shown.replace('-', '−') if float(shown) else shown[1:]

"""A histogram of differences, as SVG inside a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from mmpvg.utils.colors import COLOURS

# Odd: no difference stands in the middle of a bar.
_BARS = 21
_WIDTH, _HEIGHT, _TOP, _SIDE = 480, 240, 48, 26
_FLOOR = _HEIGHT - 54
_WORSE, _EVEN, _BETTER = COLOURS[4], '#777777', COLOURS[5]
_INK = '#1a1a1a'


def draw_differences(
    differences: Sequence[float], marked: Sequence[float], names: tuple[str, str], unit: str
) -> str:
    """A histogram of B - A over images, around zero.

    Args:
        differences: One of each image; one at least.
        marked: Those of images that are pictured; a tick stands below each.
        names: A and B.
        unit: What the difference is of.

    Returns:
        An ``svg`` element.
    """
    reach = max(map(abs, differences)) or 1.0
    counts, edges = np.histogram(differences, _BARS, (-reach, reach))
    summary = (
        f'Histogram of the difference in {unit}, {names[1]} minus {names[0]}, over '
        f'{len(differences)} images, from {min(differences):+.3g} to {max(differences):+.3g}'
    )
    parts = [
        _line(_x(0, reach), _TOP - 16, _FLOOR, '#aaaaaa'),
        *_bars(counts, edges, reach),
        *(_line(_x(value, reach), _FLOOR + 3, _FLOOR + 10) for value in marked),
        f'<path d="M{_SIDE} {_FLOOR}H{_WIDTH - _SIDE}" stroke="{_INK}"/>',
        _text(_SIDE, 20, f'◀ {names[0]} better', 'start'),
        _text(_WIDTH - _SIDE, 20, f'{names[1]} better ▶', 'end'),
        *(
            _text(_x(share * reach, reach), _FLOOR + 26, _signed(share * reach))
            for share in (-1, -0.5, 0, 0.5, 1)
        ),
        _text(_WIDTH / 2, _HEIGHT - 6, f'difference in {unit} (ticks: images pictured below)'),
    ]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(summary)}">\n'
        + '\n'.join(parts)
        + '\n</svg>\n'
    )


def _bars(counts: np.ndarray, edges: np.ndarray, reach: float) -> list[str]:
    parts = []
    for count, left, right in zip(counts, edges, edges[1:]):
        if not count:
            continue
        x, width = _x(left, reach), _x(right, reach) - _x(left, reach)
        height = (_FLOOR - _TOP) * count / counts.max()
        colour = _EVEN if left < 0 < right else _BETTER if left > 0 else _WORSE
        parts.append(
            f'<rect x="{x + 1:.1f}" y="{_FLOOR - height:.1f}" width="{width - 2:.1f}" '
            f'height="{height:.1f}" fill="{colour}"/>'
        )
        parts.append(_text(x + width / 2, _FLOOR - height - 4, str(count)))
    return parts


def _x(value: float, reach: float) -> float:
    return _WIDTH / 2 + value / reach * (_WIDTH / 2 - _SIDE)


def _line(x: float, top: float, bottom: float, colour: str = _INK) -> str:
    return f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = 'middle') -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    halo = 'paint-order="stroke" stroke="#ffffff" stroke-width="4"'
    return f'<text {place} fill="{_INK}" {halo}>{escape(text)}</text>'


def _signed(value: float) -> str:
    return '0' if not value else f'{value:+.3g}'.replace('-', '−')

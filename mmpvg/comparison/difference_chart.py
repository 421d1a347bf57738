"""A histogram of the differences between two models over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmpvg.utils.figure import COLORS, plain_text, pyplot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Odd: no difference lies in the middle of a bar.
_BARS = 21
_WORSE, _EVEN, _BETTER = COLORS[4], '#777777', COLORS[5]


def draw_differences(
    differences: Sequence[float], marked: Sequence[float], names: tuple[str, str], unit: str
) -> Figure:
    """Draw a histogram of B - A over images, around zero.

    Args:
        differences: One of each image; one at least.
        marked: Those of images that are pictured; a tick stands below each.
        names: A and B.
        unit: What the difference is of.

    Returns:
        The figure.
    """
    reach = max(map(abs, differences)) or 1.0
    counts, edges = np.histogram(differences, _BARS, (-reach, reach))
    middles, full = (edges[1:] + edges[:-1]) / 2, counts > 0
    half = _BARS // 2
    colors = np.array([_WORSE] * half + [_EVEN] + [_BETTER] * half)
    figure, axis = pyplot().subplots(figsize=(6, 3), layout='constrained')
    bars = axis.bar(middles[full], counts[full], np.diff(edges)[full] * 0.94, color=colors[full])
    axis.bar_label(bars, fontsize=8)
    axis.axvline(0, color='#aaaaaa', linewidth=0.8, zorder=0)
    axis.plot(
        marked,
        [-0.03] * len(marked),
        '|k',
        markersize=8,
        clip_on=False,
        transform=axis.get_xaxis_transform(),
    )
    axis.set(xlim=(-1.05 * reach, 1.05 * reach), yticks=[])
    axis.tick_params(axis='x', pad=12)
    axis.set_xlabel(f'difference in {unit} (ticks: images pictured below)', fontsize=9)
    axis.set_title(f'◀ {names[0]} better', loc='left', fontsize=9)
    axis.set_title(f'{names[1]} better ▶', loc='right', fontsize=9)
    axis.spines[['top', 'left', 'right']].set_visible(False)
    plain_text(figure)
    return figure


def describe_differences(differences: Sequence[float], names: tuple[str, str], unit: str) -> str:
    """Say in words what ``draw_differences`` draws, for those who cannot see it."""
    return (
        f'Histogram of the difference in {unit}, {names[1]} minus {names[0]}, over '
        f'{len(differences)} images, from {min(differences):+.3g} to {max(differences):+.3g}'
    )

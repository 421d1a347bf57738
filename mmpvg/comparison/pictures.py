"""Pictures and charts of the page, as data URIs that need no other file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

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
        marked: Those of images that are pictured, with a tick below each.
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


@dataclass(frozen=True)
class Panel:
    """A picture of a page.

    Attributes:
        source: Data URI.
        width: In pixels.
        height: In pixels.
        alt: What it shows.
        caption: Below it.
    """

    source: str
    width: int
    height: int
    alt: str
    caption: str


def embed_picture(image: Image.Image, alt: str, caption: str, largest: int = 800) -> Panel:
    """Embed a picture as JPEG.

    Args:
        image: The picture.
        alt: What it shows.
        caption: Below it.
        largest: Upper bound of its longer side, in pixels; larger ones are scaled down.
    """
    image = image.copy()
    image.thumbnail((largest, largest))
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=88)
    return Panel(_uri('image/jpeg', file.getvalue()), image.width, image.height, alt, caption)


def embed_figure(figure: Figure) -> str:
    """Data URI of a figure, as SVG; the figure is closed."""
    import matplotlib

    file = io.BytesIO()
    # No date and no random names, so that the same figure has the same bytes.
    with matplotlib.rc_context({'svg.hashsalt': 'mmpvg'}):
        figure.savefig(file, format='svg', metadata={'Date': None})
    pyplot().close(figure)
    return _uri('image/svg+xml', file.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'

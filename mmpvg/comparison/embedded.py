"""Pictures and charts as data URIs, for pages that need no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    # No date and no random names, so that the same figure has the same bytes.
    with matplotlib.rc_context({'svg.hashsalt': 'mmpvg'}):
        figure.savefig(file, format='svg', metadata={'Date': None})
    plt.close(figure)
    return _uri('image/svg+xml', file.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'

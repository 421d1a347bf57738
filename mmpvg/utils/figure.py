"""Figures that are drawn without a screen, in colors for the color-blind and for print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Okabe and Ito.
COLORS = ('#000000', '#E69F00', '#56B4E9', '#009E73', '#D55E00', '#0072B2', '#CC79A7')
MARKS = 'osD^vPX*<>'
# Its lightness rises evenly, so that it prints in gray, and around zero signs stay apart: blue
# below, yellow above. Maps that are pale at zero, such as PuOr, give both signs the same gray.
COLOR_MAP = 'cividis'


def pyplot() -> Any:
    """Matplotlib's pyplot, for files."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    return plt


def look(index: int) -> dict:
    """Arguments of matplotlib's lines for the first, second, ... of them."""
    return dict(color=COLORS[index % len(COLORS)], marker=MARKS[index % len(MARKS)])


def panels(number: int, columns: int, size: tuple[float, float]) -> tuple[Any, list]:
    """Make a figure with a number of axes in rows.

    Args:
        number: How many axes.
        columns: Most axes of a row.
        size: Width and height of each, in inches.

    Returns:
        The figure, and its axes.
    """
    columns = min(number, columns)
    rows = -(-number // columns)
    figure, axes = pyplot().subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout='constrained',
        squeeze=False,
    )
    for axis in axes.flat[number:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:number])


def save_figure(figure: Any, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure, make its folder, close the figure, and return the path."""
    plain_text(figure)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    pyplot().close(figure)
    return path


def plain_text(figure: Any) -> None:
    """Turn off formulas in labels: a dollar in the name of a model or file is a dollar."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)

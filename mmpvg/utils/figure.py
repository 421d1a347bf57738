"""Figures that are drawn without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """Matplotlib's pyplot, for files."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    return plt


def save_figure(figure: Any, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure, make its folder, and close it.

    Returns:
        The path.
    """
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

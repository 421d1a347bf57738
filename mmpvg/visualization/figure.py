"""Figures that are drawn without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """Matplotlib's pyplot, for files."""
    import matplotlib

    matplotlib.use('Agg')
    # Names of models and files stand in labels; a dollar in them is no formula.
    matplotlib.rcParams['text.parse_math'] = False
    import matplotlib.pyplot as plt

    return plt


def save_figure(figure: Any, path: str | Path, dpi: int = 110) -> Path:
    """Write a figure, make its folder, and close it; tell where it is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    pyplot().close(figure)
    return path

"""Plots the logs of trainings, one panel per number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmpvg.utils.figure import look, pyplot, save_figure

from .run_logs import Curve


def draw_run_logs(
    runs: Mapping[str, Mapping[str, Curve]],
    keys: Sequence[str],
    path: str | Path,
    smooth: int = 1,
) -> Path:
    """Draw numbers of several runs over their iterations, and return the path.

    Args:
        runs: Title -> curve by name; a run may lack some.
        keys: Names of the curves to draw, a panel each.
        path: The picture to write.
        smooth: Number of values that a drawn one of the training is the mean of.
    """
    plt = pyplot()
    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.5 * columns, 3.2 * rows), layout='constrained', squeeze=False
    )
    for axis, key in zip(axes.flat, keys):
        for index, (title, curves) in enumerate(runs.items()):
            if key not in curves:
                continue
            curve, style = curves[key], look(index)
            if curve.measured:
                axis.plot(curve.iterations, curve.values, markersize=4, label=title, **style)
                continue
            del style['marker']
            # A learning rate has no noise.
            window = 1 if key in ('lr', 'base_lr') else smooth
            values = curve.smoothed(window)
            if window > 1:
                axis.plot(curve.iterations, curve.values, alpha=0.25, linewidth=0.8, **style)
            axis.plot(curve.iterations, values, linewidth=1.3, label=title, **style)
        axis.set_title(key, loc='left', fontsize=10)
        axis.set_xlabel('iteration')
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(keys) :]:
        axis.set_visible(False)
    axes[0][0].legend(fontsize=8)
    return save_figure(figure, path)

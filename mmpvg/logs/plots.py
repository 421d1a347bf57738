"""Plots of training logs and of learning-rate schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmpvg.utils.figure import look, panels, pyplot, save_figure

from .run_logs import Curve
from .schedule import LearningRateCurve


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
    figure, axes = panels(len(keys), 3, (4.5, 3.2))
    for axis, key in zip(axes, keys):
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
    axes[0].legend(fontsize=8)
    return save_figure(figure, path)


def draw_schedules(curves: Mapping[str, LearningRateCurve], path: str | Path) -> Path:
    """Draw the learning rate of every parameter group, the fastest dark; return the path."""
    figure, axes = panels(len(curves), 2, (5.5, 3))
    for axis, (title, curve) in zip(axes, curves.items()):
        groups = sorted(zip(*curve.rates), key=max, reverse=True)
        for index, rates in enumerate(groups):
            shade = 0.85 - 0.55 * index / max(len(groups) - 1, 1)
            axis.plot(curve.iterations, rates, color=pyplot().cm.Blues(shade), linewidth=1.4)
        fastest, slowest = max(groups[0]), max(groups[-1])
        text = f'highest {fastest:.3g}'
        if len(groups) > 1:
            text += f', slowest group {slowest:.3g}'
        axis.set_title(f'{title}\n{text}', loc='left', fontsize=8)
        axis.set_ylabel('learning rate')
        axis.set_xlabel('iteration, in thousands')
        axis.xaxis.set_major_formatter(lambda value, _: f'{value / 1000:g}')
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.ticklabel_format(style='sci', axis='y', scilimits=(0, 0))
        if curve.epoch_length is not None:
            length = curve.epoch_length
            epochs = axis.secondary_xaxis(
                'top', functions=(lambda x, n=length: x / n, lambda x, n=length: x * n)
            )
            epochs.set_xlabel('epoch', fontsize=8)
            epochs.tick_params(labelsize=8)
    return save_figure(figure, path)

"""Plots learning rates over a training, one panel per config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmpvg.utils.figure import pyplot, save_figure

from .schedule import LearningRateCurve


def draw_schedules(curves: Mapping[str, LearningRateCurve], path: str | Path) -> Path:
    """Draw the learning rate of every parameter group, the fastest dark; return the path."""
    plt = pyplot()
    columns = min(len(curves), 2)
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.5 * columns, 3 * rows), layout='constrained', squeeze=False
    )
    for axis, (title, curve) in zip(axes.flat, curves.items()):
        groups = sorted(zip(*curve.rates), key=max, reverse=True)
        for index, rates in enumerate(groups):
            shade = 0.85 - 0.55 * index / max(len(groups) - 1, 1)
            axis.plot(curve.iterations, rates, color=plt.cm.Blues(shade), linewidth=1.4)
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
    for axis in list(axes.flat)[len(curves) :]:
        axis.set_visible(False)
    return save_figure(figure, path)

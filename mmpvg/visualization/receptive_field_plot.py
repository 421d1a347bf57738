"""Pictures of effective receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpvg.analysis.field_study import MeasuredField
from mmpvg.analysis.receptive_field import LearntGaussian

from .colours import SEQUENTIAL, look
from .figure import pyplot, save_figure


def draw_fields(fields: Sequence[MeasuredField], path: str | Path, title: str = '') -> Path:
    """Draw the fields of one size, a row for each state of the PE, a column for each block.

    The root is shown, cut above its 99.5th percentile, for fields are spikes on a wide foot. The
    ellipse is the Gaussian at one sigma.

    Args:
        fields: Of one size.
        path: The picture to write.
        title: Above it.

    Returns:
        The path.
    """
    states = list(dict.fromkeys(field.state for field in fields))
    places = list(dict.fromkeys(field.place for field in fields))
    height, width = fields[0].size
    figure, axes = pyplot().subplots(
        len(states),
        len(places),
        figsize=(1.6 * len(places) + 0.4, (1.6 * height / width + 0.5) * len(states) + 0.4),
        layout='constrained',
        squeeze=False,
    )
    for measured in fields:
        axis = axes[states.index(measured.state)][places.index(measured.place)]
        root = np.sqrt(measured.field)
        axis.imshow(root, cmap=SEQUENTIAL, vmin=0, vmax=np.percentile(root, 99.5) or None)
        _ellipse(axis, measured)
        axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        sy, sx = measured.fit.sigma
        fit = f'σ {sx:.1f}, {sy:.1f}; R² {measured.fit.r_squared:.2f}'
        y, x = measured.spread
        reach = f'{measured.outside:.0%} outside, spread {x:.0f}, {y:.0f}'
        axis.set_xlabel(f'{fit}\n{reach}', fontsize=7)
    for axis, place in zip(axes[0], places):
        axis.set_title(place, fontsize=9)
    for axis, state in zip(axes[:, 0], states):
        axis.set_ylabel(f'PE {state}', fontsize=9)
    figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def draw_field_curves(
    fields: Mapping[str, Sequence[MeasuredField]],
    learnt: Mapping[str, Sequence[LearntGaussian]],
    patch_sizes: Mapping[str, int],
    path: str | Path,
) -> Path:
    """Draw how fields grow with depth, with the PE as it is, a line for each model and size.

    Args:
        fields: Name of the model -> its fields.
        learnt: Name -> its Gaussian attention biases; their sigma is drawn beside, a dot a head.
        patch_sizes: Name -> side of its patches in pixels.
        path: The picture to write.

    Returns:
        The path.
    """
    figure, axes = pyplot().subplots(1, 5, figsize=(16, 3.4), layout='constrained')
    lines, styles = 0, {}
    for name, every in fields.items():
        for size in dict.fromkeys(field.size for field in every):
            chosen = [f for f in every if f.size == size and f.state == every[0].state]
            sigma = [np.mean(f.fit.sigma) / patch_sizes[name] for f in chosen]
            spread = [np.mean(f.spread) / patch_sizes[name] for f in chosen]
            r_squared, outside = [f.fit.r_squared for f in chosen], [f.outside for f in chosen]
            label, style = f'{name} {size[0]}x{size[1]}', look(lines)
            styles.setdefault(name, style)
            for axis, values in zip(axes, (sigma, r_squared, outside, spread)):
                axis.plot(range(len(values)), values, markersize=4, label=label, **style)
                axis.set_xticks(range(len(values)), [*range(len(values) - 1), 'end'])
            lines += 1
    for name, biases in learnt.items():
        for bias in biases:
            widths = np.abs(bias.sigma)
            # The larger the dot, the stronger the bias.
            strengths = 12 * np.square(bias.amplitude) + 2
            axes[4].scatter(
                [bias.block] * len(widths), widths, s=strengths, **styles[name], alpha=0.7
            )
    if not any(learnt.values()):
        axes[4].text(0.5, 0.5, 'no Gaussian bias', ha='center', va='center', color='0.4')
        axes[4].set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])
    titles = (
        'σ of the fit (patches)',
        'R² of the fit',
        'share outside its own patch',
        'spread (patches)',
        'learnt σ of the bias (patches)',
    )
    for axis, title in zip(axes, titles):
        axis.set_title(title, loc='left', fontsize=9)
        axis.set_xlabel('block')
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    return save_figure(figure, path)


def _ellipse(axis: Any, measured: MeasuredField) -> None:
    from matplotlib.patches import Ellipse

    (cy, cx), (sy, sx) = measured.fit.centre, measured.fit.sigma
    if np.isfinite(sy) and max(sy, sx) < max(measured.size):
        ellipse = Ellipse((cx, cy), 2 * sx, 2 * sy, fill=False, color='white', linewidth=1)
        axis.add_patch(ellipse)

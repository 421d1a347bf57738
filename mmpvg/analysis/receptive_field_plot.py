"""Plots of effective receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpvg.analysis.field_study import MeasuredField
from mmpvg.analysis.receptive_field import PE_STATES, LearnedGaussian
from mmpvg.utils.figure import COLOR_MAP, look, pyplot, save_figure

# Fields in a row.
_COLUMNS = 7


def draw_fields(fields: Sequence[MeasuredField], path: str | Path, title: str = '') -> Path:
    """Draw the fields of one size, block by block, for each state of the PE, and return the path.

    The square root is shown, cut above its 99.5th percentile. The ellipse is the Gaussian at one
    sigma.
    """
    states = list(dict.fromkeys(field.state for field in fields))
    places = list(dict.fromkeys(field.place for field in fields))
    height, width = fields[0].size
    columns = min(len(places), _COLUMNS)
    lines = -(-len(places) // columns)
    figure, axes = pyplot().subplots(
        len(states) * lines,
        columns,
        figsize=(1.6 * columns + 0.4, (1.6 * height / width + 0.6) * len(states) * lines + 0.4),
        layout='constrained',
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for measured in fields:
        state, place = states.index(measured.state), places.index(measured.place)
        axis = axes[state * lines + place // columns][place % columns]
        _draw_field(axis, measured)
        if not place:
            axis.set_ylabel(f'PE {measured.state}', fontsize=9)
    figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def draw_field_curves(
    fields: Mapping[str, Sequence[MeasuredField]],
    learned: Mapping[str, Sequence[LearnedGaussian]],
    patch_sizes: Mapping[str, int],
    path: str | Path,
) -> Path:
    """Draw how fields grow with depth, a line for each model and size, and return the path.

    Fields are those of the PE as it is, or of the state that was measured first.

    Args:
        fields: Name of the model -> its fields.
        learned: Name -> its Gaussian attention biases, drawn with a dot per head.
        patch_sizes: Name -> side of its patches in pixels.
        path: The picture to write.
    """
    figure, axes = pyplot().subplots(1, 6, figsize=(18, 3.4), layout='constrained')
    strokes = ('-', '--', ':', '-.')
    styles = {name: look(index) for index, name in enumerate(fields)}
    for name, every in fields.items():
        measured = {field.state for field in every}
        state = PE_STATES[0] if PE_STATES[0] in measured else every[0].state
        for index, size in enumerate(dict.fromkeys(field.size for field in every)):
            chosen = [f for f in every if f.size == size and f.state == state]
            sigma = [np.mean(f.fit.sigma) / patch_sizes[name] for f in chosen]
            spread = [np.mean(f.spread) / patch_sizes[name] for f in chosen]
            r_squared, outside = [f.fit.r_squared for f in chosen], [f.outside for f in chosen]
            label = f'{name} {size[0]}x{size[1]}'
            label += '' if state == PE_STATES[0] else f', PE {state}'
            style = dict(styles[name], linestyle=strokes[index % len(strokes)])
            for axis, values in zip(axes, (sigma, r_squared, outside, spread)):
                axis.plot(range(len(values)), values, markersize=4, label=label, **style)
                axis.set_xticks(range(len(values)), [*range(len(values) - 1), 'end'])
    _draw_biases(axes[4:], learned, styles)
    titles = (
        'σ of the fit (patches)',
        'R² of the fit',
        'share outside its own patch',
        'spread (patches)',
        'learned σ of the bias (patches)',
        'learned a of the bias',
    )
    for axis, title in zip(axes, titles):
        axis.set_title(title, loc='left', fontsize=9)
        axis.set_xlabel('block')
        axis.grid(alpha=0.3)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc='outside lower center', ncols=min(len(labels), 6), fontsize=8)
    return save_figure(figure, path)


def _draw_field(axis: Any, measured: MeasuredField) -> None:
    """Draw the field, its Gaussian, and their numbers."""
    root = np.sqrt(measured.field)
    axis.imshow(root, cmap=COLOR_MAP, vmin=0, vmax=np.percentile(root, 99.5) or None)
    _ellipse(axis, measured)
    height, width = measured.size
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axis.set_title(measured.place, fontsize=9)
    (sy, sx), (y, x) = measured.fit.sigma, measured.spread
    fit = f'σ {sx:.1f}, {sy:.1f}; R² {measured.fit.r_squared:.2f}'
    reach = f'{measured.outside:.0%} outside, spread {x:.0f}, {y:.0f}'
    axis.set_xlabel(f'{fit}\n{reach}', fontsize=7)


def _draw_biases(
    axes: Sequence[Any],
    learned: Mapping[str, Sequence[LearnedGaussian]],
    styles: Mapping[str, dict],
) -> None:
    """Draw widths and amplitudes, whose signs have no meaning."""
    for axis, key in zip(axes, ('sigma', 'amplitude')):
        for name, biases in learned.items():
            for bias in biases:
                values = np.abs(getattr(bias, key))
                axis.scatter([bias.block] * len(values), values, s=16, alpha=0.7, **styles[name])
        if not any(learned.values()):
            axis.text(0.5, 0.5, 'no Gaussian bias', ha='center', va='center', color='0.4')
            axis.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[])


def _ellipse(axis: Any, measured: MeasuredField) -> None:
    from matplotlib.patches import Ellipse

    (cy, cx), (sy, sx) = measured.fit.center, measured.fit.sigma
    if np.isfinite(sy) and max(sy, sx) < max(measured.size):
        ellipse = Ellipse((cx, cy), 2 * sx, 2 * sy, fill=False, color='white', linewidth=1)
        axis.add_patch(ellipse)

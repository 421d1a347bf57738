"""Plots of the analyses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpvg.utils.figure import COLOR_MAP, look, panels, pyplot, save_figure

if TYPE_CHECKING:
    from .counterbalance import Counterbalance
    from .pe_similarity import ResizeDistortion
    from .receptive_field import LearnedGaussian, MeasuredField

#: Block -> correlation of DeiT-Ti with layer-wise PE and average pooling (MPVG paper, Figure 2):
#: the network has 12 blocks, and the tokens are averaged over the images first (derived from the
#: caption).
PUBLISHED_CORRELATIONS = {1: -0.37, 4: -0.67, 7: -0.82, 9: -0.85, 11: -0.95}
PUBLISHED_DEPTH = 12
# Fields in a row.
_COLUMNS = 7
# The state of the positions that fields are usually measured in.
_AS_IT_IS = 'as it is'


def draw_counterbalance(results: Mapping[str, Counterbalance], path: str | Path) -> Path:
    """Draw the correlation of tokens and PE against depth, a line per model, and return the path.

    On the left with the PE delivered to the block, on the right with the raw table. Solid lines are
    means over the correlations of the images, their standard deviation shaded; dashed lines are of
    the tokens averaged over the images first. Beside these the left panel has the values that the
    MPVG paper gives for DeiT-Ti, if a model has as many blocks.
    """
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 4.2), layout='constrained', sharey=True)
    titles = 'with the PE delivered to the block', 'with the raw PE table'
    kinds = ('delivered', 'averaged'), ('table', 'averaged_table')
    for axis, title, (kind, averaged) in zip(axes, titles, kinds):
        for index, (name, result) in enumerate(results.items()):
            values = getattr(result, kind)
            blocks = np.flatnonzero(np.isfinite(values).all(0))
            if not len(blocks):
                continue
            mean, spread = values[:, blocks].mean(0), values[:, blocks].std(0)
            style = look(index)
            axis.plot(blocks, mean, markersize=5, label=name, **style)
            first = getattr(result, averaged)[blocks]
            axis.plot(blocks, first, markersize=3, linestyle='--', **style)
            axis.fill_between(
                blocks, mean - spread, mean + spread, color=style['color'], alpha=0.12, linewidth=0
            )
        axis.axhline(0, color='0.5', linewidth=0.8)
        axis.set_title(title, loc='left', fontsize=10)
        axis.set_xlabel('block')
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('correlation with the token embedding')
    if any(len(result.averaged) == PUBLISHED_DEPTH for result in results.values()):
        axes[0].plot(
            list(PUBLISHED_CORRELATIONS),
            list(PUBLISHED_CORRELATIONS.values()),
            linestyle='none',
            marker='x',
            markersize=8,
            markeredgewidth=1.8,
            color='0.35',
            label='MPVG paper, DeiT-Ti',
        )
    # The right panel has every model.
    lines = {
        label: line for axis in axes[::-1] for line, label in zip(*axis.get_legend_handles_labels())
    }
    strokes = {'each image, mean': '-', 'tokens averaged first': '--'}
    for label, stroke in strokes.items():
        lines[label] = axes[1].plot([], [], color='0.35', linestyle=stroke)[0]
    figure.legend(
        lines.values(),
        lines.keys(),
        loc='outside lower center',
        ncols=min(len(lines), 5),
        fontsize=8,
    )
    return save_figure(figure, path)


def draw_embedding_maps(result: Counterbalance, path: str | Path) -> Path:
    """Draw token embedding, delivered PE and their sum of every block, and return the path."""
    depth = len(result.embeddings)
    figure, axes = pyplot().subplots(
        3, depth, figsize=(1.5 * depth + 1, 6), layout='constrained', squeeze=False
    )
    limit = float(np.percentile(np.abs(result.embeddings), 99))
    style = dict(cmap=COLOR_MAP, vmin=-limit, vmax=limit, aspect='auto')
    for block, (embedding, pe) in enumerate(zip(result.embeddings, result.pes)):
        rows = embedding, pe, None if pe is None else embedding + pe
        for axis, values in zip(axes[:, block], rows):
            if values is None:
                axis.text(0.5, 0.5, 'none', ha='center', va='center', fontsize=8, color='0.4')
                axis.set(xticks=[], yticks=[])
                continue
            image = axis.imshow(values, **style)
            axis.set(xticks=[], yticks=[])
        correlation = np.nan if pe is None else result.delivered[:, block].mean()
        axes[0][block].set_title(f'block {block}', fontsize=9)
        if np.isfinite(correlation):
            axes[2][block].set_xlabel(f'r = {correlation:+.3f}', fontsize=8)
    for axis, label in zip(axes[:, 0], ('token embedding', 'delivered PE', 'their sum')):
        axis.set_ylabel(f'{label}\n(tokens x channels)', fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.6, aspect=40, pad=0.01)
    return save_figure(figure, path)


def draw_last_norms(results: Mapping[str, Counterbalance], path: str | Path) -> Path:
    """Draw token norms and cosine similarity at the last norm, a row per model; return the path."""
    figure, axes = pyplot().subplots(
        len(results), 3, figsize=(9, 2.5 * len(results) + 0.4), layout='constrained', squeeze=False
    )
    for row, (name, result) in zip(axes, results.items()):
        end = result.last_norm
        for axis, values in zip(row, (end.before, end.after, end.cosine)):
            # Rounding errors of an even map are no pattern.
            middle, half = (values.max() + values.min()) / 2, (values.max() - values.min()) / 2
            half = max(half, 1e-3 * abs(middle))
            limits = dict(vmin=middle - half, vmax=middle + half)
            image = axis.imshow(values, cmap=COLOR_MAP, interpolation='nearest', **limits)
            axis.set(xticks=[], yticks=[])
            axis.set_xlabel(f'mean {values.mean():.3g}', fontsize=8)
            bar = figure.colorbar(image, ax=axis, shrink=0.8)
            bar.formatter.set_useOffset(False)
        variance = 'no last norm' if end.bias_variance is None else f'{end.bias_variance:.2e}'
        row[0].set_ylabel(f'{name}\nvariance of its bias:\n{variance}', fontsize=8)
    titles = 'norm before the last norm', 'norm after', 'cosine similarity'
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, loc='left', fontsize=9)
    return save_figure(figure, path)


def draw_mosaics(mosaics: Mapping[str, np.ndarray], path: str | Path, title: str = '') -> Path:
    """Draw the similarity of every token to all others, a mosaic for each PE, and return the path.

    Args:
        mosaics: Name of the PE -> (tiles down, tiles across, h, w), as of ``similarity_mosaic``.
        path: The picture to write.
        title: Above it.
    """
    down, across, h, w = next(iter(mosaics.values())).shape
    figure, axes = panels(len(mosaics), 4, (3.75, 3.4 * down * h / (across * w) + 0.4))
    # Every map holds the token itself, which would take the colors of all else.
    ranges = [np.percentile(mosaic, [0.5, 99]) for mosaic in mosaics.values()]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    for axis, (name, mosaic) in zip(axes, mosaics.items()):
        image = axis.imshow(_with_gaps(mosaic), cmap=COLOR_MAP, vmin=low, vmax=high)
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, loc='left', fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.6, extend='both', label='cosine similarity')
    figure.suptitle(title, fontsize=11)
    return save_figure(figure, path)


def draw_distortions(distortions: Sequence[ResizeDistortion], path: str | Path) -> Path:
    """Draw the distortions of one PE over the grids, a line per kernel, and return the path."""
    figure, axes = pyplot().subplots(1, 3, figsize=(12, 3.4), layout='constrained')
    grids = list(dict.fromkeys(d.grid for d in distortions))
    grids.sort(key=lambda grid: grid[0] * grid[1])
    labels = [f'{h}x{w}' for h, w in grids]
    panels = (
        ('error', 'error of the similarities (lower is better)'),
        ('kept', 'cosine of a row before and after (1 is best)'),
        ('norm_ratio', 'norm after over before (1 is best)'),
    )
    for axis, (key, title) in zip(axes, panels):
        for index, kernel in enumerate(dict.fromkeys(d.kernel for d in distortions)):
            values = {d.grid: getattr(d, key) for d in distortions if d.kernel == kernel}
            axis.plot(labels, [values[g] for g in grids], markersize=5, label=kernel, **look(index))
        axis.set_title(title, loc='left', fontsize=10)
        axis.set_xlabel('grid')
        axis.tick_params(axis='x', labelrotation=45)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    return save_figure(figure, path)


def _with_gaps(mosaic: np.ndarray) -> np.ndarray:
    """(a, b, h, w) -> a picture of a x b maps with empty lines between them."""
    # Large enough that a screen shows all lines alike.
    factor = max(1, round(900 / (mosaic.shape[0] * mosaic.shape[2])))
    maps = mosaic.repeat(factor, 2).repeat(factor, 3)
    down, across, h, w = maps.shape
    gap = max(2, h // 12)
    padded = np.full((down, h + gap, across, w + gap), np.nan)
    padded[:, :h, :, :w] = maps.transpose(0, 2, 1, 3)
    return padded.reshape(down * (h + gap), across * (w + gap))[:-gap, :-gap]


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
            axis.set_ylabel(label_of(measured.state), fontsize=9)
    figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def label_of(state: str) -> str:
    """Name a state of ``pe_states.PE_STATES`` in a picture."""
    return state if state.startswith('relative positions') else f'PE {state}'


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
        state = _AS_IT_IS if _AS_IT_IS in measured else every[0].state
        for index, size in enumerate(dict.fromkeys(field.size for field in every)):
            chosen = [f for f in every if f.size == size and f.state == state]
            sigma = [np.mean(f.fit.sigma) / patch_sizes[name] for f in chosen]
            spread = [np.mean(f.spread) / patch_sizes[name] for f in chosen]
            r_squared, outside = [f.fit.r_squared for f in chosen], [f.outside for f in chosen]
            label = f'{name} {size[0]}x{size[1]}'
            label += '' if state == _AS_IT_IS else f', {label_of(state)}'
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

"""Plots of the counterbalance of tokens and PE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmpvg.analysis.counterbalance import Counterbalance
from mmpvg.utils.figure import COLOR_MAP, look, pyplot, save_figure


def draw_counterbalance(results: Mapping[str, Counterbalance], path: str | Path) -> Path:
    """Draw the correlation of tokens and PE against depth, a line per model, and return the path.

    On the left with the PE delivered to the block, on the right with the raw table. The standard
    deviation over the images is shaded.
    """
    figure, axes = pyplot().subplots(1, 2, figsize=(9, 3.6), layout='constrained', sharey=True)
    titles = 'with the PE delivered to the block', 'with the raw PE table'
    for axis, title, kind in zip(axes, titles, ('delivered', 'table')):
        for index, (name, result) in enumerate(results.items()):
            values = getattr(result, kind)
            blocks = np.flatnonzero(np.isfinite(values).all(0))
            if not len(blocks):
                continue
            mean, spread = values[:, blocks].mean(0), values[:, blocks].std(0)
            style = look(index)
            axis.plot(blocks, mean, markersize=5, label=name, **style)
            axis.fill_between(
                blocks, mean - spread, mean + spread, color=style['color'], alpha=0.12, linewidth=0
            )
        axis.axhline(0, color='0.5', linewidth=0.8)
        axis.set_title(title, loc='left', fontsize=10)
        axis.set_xlabel('block')
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('correlation with the token embedding')
    axes[1].legend(fontsize=8)
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

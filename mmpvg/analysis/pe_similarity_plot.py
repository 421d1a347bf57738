"""Plots of the similarity of the rows of the PE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmpvg.analysis.pe_similarity import ResizeDistortion
from mmpvg.utils.figure import COLOR_MAP, look, pyplot, save_figure


def draw_mosaics(mosaics: Mapping[str, np.ndarray], path: str | Path, title: str = '') -> Path:
    """Draw the similarity of every token to all others, a mosaic for each PE, and return the path.

    Args:
        mosaics: Name of the PE -> (tiles down, tiles across, h, w), as of ``similarity_mosaic``.
        path: The picture to write.
        title: Above it.
    """
    columns = min(len(mosaics), 4)
    rows = -(-len(mosaics) // columns)
    down, across, h, w = next(iter(mosaics.values())).shape
    figure, axes = pyplot().subplots(
        rows,
        columns,
        figsize=(3.6 * columns + 0.6, (3.4 * down * h / (across * w) + 0.3) * rows + 0.3),
        layout='constrained',
        squeeze=False,
    )
    # Every map holds the token itself, which would take the colors of all else.
    ranges = [np.percentile(mosaic, [0.5, 99]) for mosaic in mosaics.values()]
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    for axis, (name, mosaic) in zip(axes.flat, mosaics.items()):
        image = axis.imshow(_with_gaps(mosaic), cmap=COLOR_MAP, vmin=low, vmax=high)
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, loc='left', fontsize=10)
    for axis in list(axes.flat)[len(mosaics) :]:
        axis.set_visible(False)
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

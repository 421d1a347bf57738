"""A plot of how time and memory of networks grow with the size of the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmpvg.utils.figure import look, pyplot, save_figure


def draw_benchmark(rows: Sequence[dict], path: str | Path) -> Path:
    """Draw time and peak memory over the image's pixels, one line a network.

    Args:
        rows: With ``network``, ``mode``, ``pixels``, ``size``, ``ms`` and ``mib``.
        path: The picture to write.

    Returns:
        The path.
    """
    plt = pyplot()
    modes = list(dict.fromkeys(row['mode'] for row in rows))
    networks = list(dict.fromkeys(row['network'] for row in rows))
    figure, axes = plt.subplots(
        2, len(modes), figsize=(5 * len(modes), 7), layout='constrained', squeeze=False
    )
    for column, mode in enumerate(modes):
        for row, (key, label) in enumerate((('ms', 'time, ms'), ('mib', 'peak memory, MiB'))):
            axis = axes[row][column]
            for index, network in enumerate(networks):
                points = sorted(
                    (r['pixels'], r[key], r['size'])
                    for r in rows
                    if r['mode'] == mode and r['network'] == network
                )
                axis.loglog(
                    [p[0] for p in points],
                    [p[1] for p in points],
                    **look(index),
                    markersize=5,
                    linewidth=1.2,
                    label=network,
                )
            axis.set_xticks([p[0] for p in points], [p[2] for p in points])
            axis.minorticks_off()
            axis.set_ylabel(label)
            axis.grid(alpha=0.3, which='both')
            axis.set_title(mode if row == 0 else '', loc='left')
    axes[0][0].legend(fontsize=8)
    return save_figure(figure, path)

"""A plot of a study: every seed a dot, their mean a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmpvg.utils.figure import pyplot, save_figure

from .classification_study import Result

# Distinct in print and for the color-blind: hue, lightness and marker differ.
_STYLES = (('#0072b2', 'o'), ('#d55e00', '^'), ('#009e73', 's'))


def draw_study(results: Sequence[Result], path: str | Path, title: str = '') -> Path:
    """Draw accuracies by delivery, a color for each pooling.

    Args:
        results: Of ``classification_study.summarize``.
        path: The picture to write.
        title: Above it.

    Returns:
        The path.
    """
    plt = pyplot()
    deliveries = list(dict.fromkeys(result.delivery for result in results))
    poolings = list(dict.fromkeys(result.pooling for result in results))
    figure, axis = plt.subplots(figsize=(7, 3.6), layout='constrained')
    for result in results:
        color, marker = _STYLES[poolings.index(result.pooling) % len(_STYLES)]
        shift = 0.3 * (poolings.index(result.pooling) - (len(poolings) - 1) / 2)
        x = deliveries.index(result.delivery) + shift
        count = len(result.accuracies)
        spots = [x + 0.1 * (i - (count - 1) / 2) / max(count - 1, 1) for i in range(count)]
        axis.plot(spots, result.accuracies, marker, color=color, alpha=0.6, markersize=5)
        axis.hlines(result.mean, x - 0.12, x + 0.12, color=color, linewidth=2.5)
    for pooling, (color, marker) in zip(poolings, _STYLES):
        axis.plot([], [], marker, color=color, label=pooling)
    axis.set_xticks(range(len(deliveries)), deliveries)
    axis.set_ylabel('validation accuracy (%)')
    axis.set_title(title, loc='left', fontsize=10)
    axis.grid(axis='y', alpha=0.3)
    axis.legend(title='pooling', frameon=False)
    return save_figure(figure, path, dpi=130)

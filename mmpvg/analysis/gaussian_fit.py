"""A 2-D Gaussian fitted to a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GaussianFit:
    """``A exp(-((y - cy)^2 / (2 sy^2) + (x - cx)^2 / (2 sx^2)))``, in pixels of the map.

    Attributes:
        amplitude: A.
        centre: (cy, cx); a pixel's centre is its index.
        sigma: (sy, sx), positive.
        r_squared: ``1 - residual / total`` sum of squares: 1 for a map that is a Gaussian, 0 for
            one whose mean is as good, below 0 for one whose mean is better.
    """

    amplitude: float
    centre: tuple[float, float]
    sigma: tuple[float, float]
    r_squared: float


def fit_gaussian(field: np.ndarray) -> GaussianFit:
    """Fit a Gaussian with axes along rows and columns to a map, by least squares.

    It starts from the map's moments, and from a narrow Gaussian at its peak for maps of a spike
    and a wide foot; the better end is given.

    Args:
        field: (H, W), not negative.

    Raises:
        ValueError: If the map has a value that is not finite, or is zero everywhere.
    """
    from scipy.optimize import least_squares

    if not np.isfinite(field).all():
        raise ValueError('a map with values that are not finite has no Gaussian')
    total = field.sum()
    if total <= 0:
        raise ValueError('a map that is zero everywhere has no Gaussian')
    y, x = (np.arange(side, dtype=np.float64) for side in field.shape)
    peak = field.max()
    scaled = field / peak

    def factors(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.exp(-(((y - p[1]) / p[3]) ** 2) / 2), np.exp(-(((x - p[2]) / p[4]) ** 2) / 2)

    def residuals(p: np.ndarray) -> np.ndarray:
        rows, columns = factors(p)
        return (p[0] * np.outer(rows, columns) - scaled).ravel()

    def jacobian(p: np.ndarray) -> np.ndarray:
        rows, columns = factors(p)
        dy, dx = y - p[1], x - p[2]
        outer = np.outer(rows, columns)
        return np.stack(
            [
                outer.ravel(),
                (p[0] * outer * (dy / p[3] ** 2)[:, None]).ravel(),
                (p[0] * outer * (dx / p[4] ** 2)[None]).ravel(),
                (p[0] * outer * (dy**2 / p[3] ** 3)[:, None]).ravel(),
                (p[0] * outer * (dx**2 / p[4] ** 3)[None]).ravel(),
            ],
            axis=1,
        )

    cy, cx = field.sum(1) @ y / total, field.sum(0) @ x / total
    sy, sx = field_spread(field)
    top, left = np.unravel_index(field.argmax(), field.shape)
    starts = [(1.0, cy, cx, max(sy, 0.5), max(sx, 0.5))]
    starts += [(1.0, top, left, max(sy / k, 0.5), max(sx / k, 0.5)) for k in (3, 10)]
    # Narrower than a third of a pixel, a Gaussian is one pixel, however wide it is.
    low = [0, -field.shape[0], -field.shape[1], 0.3, 0.3]
    high = [np.inf, 2 * field.shape[0], 2 * field.shape[1], *(10 * side for side in field.shape)]
    ends = [least_squares(residuals, start, jacobian, (low, high)) for start in starts]
    best = min(ends, key=lambda end: end.cost)
    spread = ((scaled - scaled.mean()) ** 2).sum()
    r_squared = 1 - 2 * best.cost / spread if spread else float('nan')
    amplitude, cy, cx, sy, sx = (float(value) for value in best.x)
    return GaussianFit(amplitude * float(peak), (cy, cx), (sy, sx), float(r_squared))


def field_spread(field: np.ndarray) -> tuple[float, float]:
    """How far a field reaches: the root mean square distance from its centre of mass.

    Args:
        field: (H, W).

    Returns:
        Along y and along x, in pixels; a side divided by the root of 12 for a uniform field.
    """
    total = field.sum()
    spreads = []
    for axis in (0, 1):
        profile = field.sum(1 - axis) / total if total > 0 else np.full(field.shape[axis], np.nan)
        place = np.arange(field.shape[axis])
        spreads.append(float(np.sqrt(profile @ (place - profile @ place) ** 2)))
    return spreads[0], spreads[1]

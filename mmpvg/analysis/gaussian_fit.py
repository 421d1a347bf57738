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


def fit_gaussian(field: np.ndarray, least_sigma: float = 0.3) -> GaussianFit:
    """Fit a Gaussian with axes along rows and columns to a map, by least squares.

    For given centre and widths the best amplitude is known, and what is left of the squares is
    ``|F|^2 - (r' F c)^2 / (|r|^2 |c|^2)`` with the Gaussian's factors r along the rows and c along
    the columns. That is minimised, from the map's moments and, for maps of a spike and a wide foot,
    from narrow Gaussians at its peak; the best end is given.

    Args:
        field: (H, W), not negative.
        least_sigma: Width that the Gaussian has at least, in pixels. Narrower than a third of one,
            it is one pixel, however wide it is.

    Raises:
        ValueError: If the map has a value that is not finite, or is zero everywhere.
    """
    from scipy.optimize import minimize

    field = np.asarray(field, dtype=np.float64)
    if not np.isfinite(field).all():
        raise ValueError('a map with values that are not finite has no Gaussian')
    if field.sum() <= 0:
        raise ValueError('a map that is zero everywhere has no Gaussian')
    y, x = (np.arange(side, dtype=np.float64) for side in field.shape)
    least_start = 1.5 * least_sigma
    sy, sx = np.maximum(field_spread(field), least_start)
    middle = field.sum(1) @ y / field.sum(), field.sum(0) @ x / field.sum()
    peak = np.unravel_index(field.argmax(), field.shape)
    starts = [(*middle, sy, sx)]
    starts += [(*peak, max(sy / k, least_start), max(sx / k, least_start)) for k in (3, 10)]
    widths = [(np.log(least_sigma), np.log(10 * side + least_sigma)) for side in field.shape]
    squares = np.square(field).sum()

    def share(p: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the share of the squares that the Gaussian explains, and its gradient."""
        rows, row_slopes = _factor(y, p[0], p[2])
        columns, column_slopes = _factor(x, p[1], p[3])
        by_row, by_column = field @ columns, rows @ field
        product, rr, cc = rows @ by_row, rows @ rows, columns @ columns
        if rr < 1e-200 or cc < 1e-200:
            # Narrow, and far from the map.
            return 0.0, np.zeros(4)
        value = -(product**2) / (rr * cc * squares)
        slopes = [2 * (d @ by_row) / product - 2 * (d @ rows) / rr for d in row_slopes]
        slopes += [2 * (d @ by_column) / product - 2 * (d @ columns) / cc for d in column_slopes]
        return value, value * np.array([slopes[0], slopes[2], slopes[1], slopes[3]])

    ends = []
    for cy, cx, sy, sx in starts:
        # Places in units of the first width, so that all parameters are of one size.
        unit = np.array([sy, sx, 1, 1])
        bounds = [(-h / u, 2 * h / u) for h, u in zip(field.shape, unit)] + widths
        end = minimize(
            lambda p, unit=unit: tuple(v * u for v, u in zip(share(p * unit), (1, unit))),
            np.array([cy, cx, np.log(sy), np.log(sx)]) / unit,
            jac=True,
            method='L-BFGS-B',
            bounds=bounds,
            options=dict(ftol=1e-15, gtol=1e-10, maxiter=500),
        )
        ends.append((end.fun, end.x * unit))
    explained, best = min(ends, key=lambda end: end[0])
    rows, columns = _factor(y, best[0], best[2])[0], _factor(x, best[1], best[3])[0]
    amplitude = rows @ field @ columns / ((rows @ rows) * (columns @ columns))
    spread = np.square(field - field.mean()).sum()
    r_squared = 1 - squares * (1 + explained) / spread if spread else float('nan')
    centre, sigma = (float(best[0]), float(best[1])), np.exp(best[2:])
    return GaussianFit(
        float(amplitude), centre, (float(sigma[0]), float(sigma[1])), float(r_squared)
    )


def _factor(
    place: np.ndarray, centre: float, log_sigma: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """A Gaussian along one axis, and its derivatives by the centre and by the log of its width."""
    offset = (place - centre) / np.exp(log_sigma)
    values = np.exp(-(offset**2) / 2)
    return values, (values * offset / np.exp(log_sigma), values * offset**2)


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

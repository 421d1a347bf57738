"""A 2-D Gaussian fitted to a map."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from mmpvg.utils.errors import UserError


@dataclass(frozen=True)
class GaussianFit:
    """``A exp(-((y - cy)^2 / (2 sy^2) + (x - cx)^2 / (2 sx^2)))``, in pixels of the map.

    Attributes:
        amplitude: A.
        center: (cy, cx); a pixel's center is its index.
        sigma: (sy, sx), positive.
        r_squared: ``1 - var(residual) / var(map)``, as GAB's code and lmfit compute it.
    """

    amplitude: float
    center: tuple[float, float]
    sigma: tuple[float, float]
    r_squared: float


def fit_gaussian(field: np.ndarray, least_sigma: float = 0.3) -> GaussianFit:
    """Fit a Gaussian with axes along rows and columns to a map, by least squares.

    scipy's ``curve_fit`` runs from the moments of the map and, for maps of a spike and a wide foot,
    from narrower Gaussians at the peak; the best fit is returned. The amplitude is not negative and
    the center lies inside the map, as in OpenERF by GAB's authors.

    Args:
        field: (H, W), not negative.
        least_sigma: Lower bound of the width, in pixels. Narrower than a third of a pixel, a
            Gaussian is one pixel whatever its width.

    Raises:
        UserError: If the map has a value that is not finite, or is zero everywhere.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    field = np.asarray(field, dtype=np.float64)
    if not np.isfinite(field).all():
        raise UserError('a map with values that are not finite has no Gaussian')
    if field.sum() <= 0:
        raise UserError('a map that is zero everywhere has no Gaussian')
    height, width = field.shape
    y, x = np.arange(height), np.arange(width)

    def gaussian(_: None, a: float, cy: float, cx: float, sy: float, sx: float) -> np.ndarray:
        rows, columns = (
            np.exp(-(((p - c) / s) ** 2) / 2) for p, c, s in ((y, cy, sy), (x, cx, sx))
        )
        return (a * np.outer(rows, columns)).ravel()

    # The peak is 1, so that all parameters are of comparable size.
    scale = field.max()
    values = field.ravel() / scale
    least_start = 1.5 * least_sigma
    sy, sx = np.maximum(field_spread(field), least_start)
    moments = field.sum(1) @ y / field.sum(), field.sum(0) @ x / field.sum()
    peak = np.unravel_index(field.argmax(), field.shape)
    starts = [(*moments, sy, sx)]
    starts += [(*peak, max(sy / k, least_start), max(sx / k, least_start)) for k in (3, 10)]
    bounds = (
        (0, 0, 0, least_sigma, least_sigma),
        (np.inf, height - 1 + 1e-9, width - 1 + 1e-9, 10 * height + 1, 10 * width + 1),
    )
    best, least = None, np.inf
    with warnings.catch_warnings():
        # Of the covariance, which is not used.
        warnings.simplefilter('ignore', OptimizeWarning)
        for start in starts:
            found, _ = curve_fit(
                gaussian,
                None,
                values,
                (1.0, *start),
                bounds=bounds,
                x_scale='jac',
                xtol=1e-12,
                ftol=1e-12,
            )
            squares = np.square(gaussian(None, *found) - values).sum()
            if squares < least:
                best, least = found, squares
    residual, variance = values - gaussian(None, *best), values.var()
    r_squared = 1 - residual.var() / variance if variance else float('nan')
    a, cy, cx, sy, sx = map(float, best)
    return GaussianFit(a * float(scale), (cy, cx), (sy, sx), float(r_squared))


def field_spread(field: np.ndarray) -> tuple[float, float]:
    """Compute the root mean square distance of a field (H, W) from its center of mass.

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

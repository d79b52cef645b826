"""Linear costs from measurements: non-negative least squares over a handful of features.

It knows nothing of what is measured. Small enough for a device without scipy.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["fit_nonnegative", "fit_symmetric", "spread"]

_MAD_TO_SD = 1.4826
_ROUNDS = 8


def fit_nonnegative(
    features: ArrayLike, seconds: ArrayLike, *, known_s: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """Return non-negative coefficients with the least squared *relative* error.

    Times spread in proportion to their size, so each row is weighted by the inverse of its time.
    Every subset of the features is tried (there are few), so the optimum is exact.

    Args:
        features: Shape ``(n, k)``, ``k`` at most 8, non-negative.
        seconds: Shape ``(n,)``, positive.
        known_s: The part of each time that is explained already, shape ``(n,)`` or a number;
            errors stay relative to the whole time, so that a small rest weighs little.

    Returns:
        Coefficients, float64 ``(k,)``, all at least 0.

    Raises:
        ValueError: If shapes do not fit, there are no rows, or a value is not finite and positive.

    Examples:
        >>> fit_nonnegative([[1, 10], [1, 20], [1, 40]], [3, 5, 9]).round(6).tolist()
        [1.0, 0.2]
    """
    x = np.asarray(features, dtype=float)
    y = np.asarray(seconds, dtype=float)
    if x.ndim != 2 or y.shape != x.shape[:1] or not len(y) or x.shape[1] > 8:
        raise ValueError(f"features {x.shape} and seconds {y.shape} do not fit")
    if not (y > 0).all():
        raise ValueError("seconds must be positive")
    target = 1.0 - np.broadcast_to(np.asarray(known_s, dtype=float), y.shape) / y
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(target).all()):
        raise ValueError("features and seconds must be finite")
    x = x / y[:, None]
    scale = np.maximum(np.abs(x).max(axis=0), np.finfo(float).tiny)
    x = x / scale
    best, best_error = np.zeros(x.shape[1]), float((target**2).sum())
    for size in range(1, x.shape[1] + 1):
        for chosen in map(list, combinations(range(x.shape[1]), size)):
            solution = np.linalg.lstsq(x[:, chosen], target, rcond=None)[0]
            if (solution < 0).any():
                continue
            error = float(((x[:, chosen] @ solution - target) ** 2).sum())
            if error < best_error - 1e-12:
                best, best_error = np.zeros(x.shape[1]), error
                best[chosen] = solution
    return np.asarray(best / scale, dtype=np.float64)


def fit_symmetric(features: ArrayLike, seconds: ArrayLike) -> NDArray[np.float64]:
    """Return non-negative coefficients whose errors are relative to the larger of both times.

    Relative to the measured time alone, one that was measured thirty times too short counts
    thirty squared, and pulls all coefficients down; relative to the larger of measured and
    predicted no error exceeds 1. Solved by reweighting ``fit_nonnegative``, so a local optimum:
    it bears few such times, not many.

    Args:
        features: As for ``fit_nonnegative``.
        seconds: As for ``fit_nonnegative``.

    Returns:
        Coefficients, float64 ``(k,)``, all at least 0.

    Raises:
        ValueError: As for ``fit_nonnegative``.

    Examples:
        >>> amounts, seconds = [[n] for n in range(1, 31)], [*range(2, 60, 2), 2]
        >>> fit_nonnegative(amounts, seconds).round(1), fit_symmetric(amounts, seconds).round(1)
        (array([0.1]), array([1.9]))
    """
    x = np.asarray(features, dtype=float)
    y = np.asarray(seconds, dtype=float)
    coefficients = fit_nonnegative(x, y)
    for _ in range(_ROUNDS):
        weights = y / np.maximum(x @ coefficients, y)
        coefficients = fit_nonnegative(x * weights[:, None], y, known_s=(1.0 - weights) * y)
    return coefficients


def spread(values: ArrayLike) -> float:
    """Return a robust standard deviation: 1.4826 times the median absolute deviation."""
    x = np.asarray(values, dtype=float)
    return float(_MAD_TO_SD * np.median(np.abs(x - np.median(x))))

"""Layer times calibrated on measured parts: what was measured, plus a short estimated rest.

The time of a series of layers is not the sum of their times, so whole parts are measured, a head
or a tail each, and the estimated layer times are scaled to add up to them: segment by segment
where the parts are nested. It measures nothing, and knows neither graphs nor networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Part", "calibrated_layer_s", "part_overhead_s"]

_LEAST_SHARE = 1e-6
"""Of a mean layer: the least weight of a layer that was estimated at nothing."""


@dataclass(frozen=True)
class Part:
    """Some layers that ran as one, and how long they took.

    Attributes:
        layers: Their indices.
        seconds: Positive.
    """

    layers: frozenset[int]
    seconds: float


def calibrated_layer_s(
    estimated_s: ArrayLike, parts: Sequence[Part], *, overhead_s: float = 0.0
) -> NDArray[np.float64]:
    """Return layer times, scaled so that the measured parts come out as measured.

    Every layer is its estimate times a factor that is not negative. The factors have the least
    squared relative error over the parts, and among those the least change from one common
    factor, that of the part with the largest estimate; layers in no part keep that one. So:

    - Nested parts (the heads at successive cut vertices, or the tails) that grow in time as they
      grow in layers come out exactly: the layers between two of them share out their difference
      as they were estimated.
    - Where a longer part was measured faster than a shorter one, noise is what did it: the
      layers between them get nothing, and both parts the same time between the two measured
      ones, as in isotonic regression.
    - Parts that cross one another (cuts through branches) are met together as well as layers
      that take no negative time allow.

    Factors below zero are set to zero together and the rest is solved again, which is exact for
    nested parts (pooling violators) and near the optimum otherwise.

    Complexity: O(layers * parts^2) for each such round, rarely more than three.

    Args:
        estimated_s: Time of each layer as estimated, shape ``(n,)``, seconds, not negative; only
            their proportions matter.
        parts: What was measured: heads, or tails, or both; without any the estimates are returned.
        overhead_s: What running any part costs beside its layers, e.g. of ``part_overhead_s``.

    Returns:
        Time of each layer, float64 ``(n,)``, not negative. A part that was not measured takes
        the sum over its layers, and ``overhead_s``.

    Raises:
        ValueError: If an estimate or the overhead is negative or not finite, or a part has no
            layer, an unknown one or a time that is not positive.

    References:
        Zhang et al. (QDMP), IMWUT 2020, for measuring series of layers rather than layers.
        *Departs*: few parts are measured, and estimates fill what lies between them.

    Examples:
        >>> heads = [Part(frozenset({0, 1}), 3.0), Part(frozenset({0, 1, 2, 3}), 4.0)]
        >>> calibrated_layer_s([1, 1, 1, 3, 2], heads).round(6).tolist()
        [1.5, 1.5, 0.25, 0.75, 1.333333]
    """
    estimated = _checked(estimated_s, parts)
    if not (np.isfinite(overhead_s) and overhead_s >= 0):
        raise ValueError(f"the overhead must be finite and not negative, got {overhead_s}")
    if not parts or not len(estimated):
        return estimated
    weights = np.maximum(estimated, _LEAST_SHARE * (estimated.mean() or 1.0))
    inside = np.zeros((len(parts), len(estimated)))
    for row, part in zip(inside, parts, strict=True):
        row[list(part.layers)] = 1.0
    measured = np.array([part.seconds for part in parts])
    rests = np.maximum(measured - overhead_s, 0.0)
    sums = inside @ weights
    common = rests[sums.argmax()] / sums.max()

    # Unknown is sqrt(weight) * (factor - common), so that the shortest solution changes factors
    # least, weighted by time, and layers that are in the same parts alike.
    roots = np.sqrt(weights)
    rows = inside * (roots / measured[:, None])
    free = np.ones(len(weights), dtype=bool)
    factors = np.zeros(len(weights))
    while free.any():
        target = (rests - common * (inside[:, free] @ weights[free])) / measured
        change = np.linalg.lstsq(rows[:, free], target, rcond=None)[0]
        factors[free] = common + change / roots[free]
        if (factors >= 0).all():
            break
        free &= factors >= 0
        factors[~free] = 0.0
    return np.asarray(weights * factors, dtype=np.float64)


def part_overhead_s(estimated_s: ArrayLike, parts: Sequence[Part]) -> float:
    """Return what running any part costs beside its layers: calling a session once more.

    Where two parts without a common layer were measured and so was their union, their sum is the
    union and one overhead: the median of these counts. Otherwise it is the intercept of the
    parts' times over their estimated times, least squares of relative errors.

    Args:
        estimated_s: As for ``calibrated_layer_s``.
        parts: What was measured.

    Returns:
        Seconds, at least 0 and at most what the fastest part took; 0 for a single part.

    Raises:
        ValueError: As for ``calibrated_layer_s``.

    Examples:
        >>> head, tail = Part(frozenset({0}), 2.1), Part(frozenset({1, 2}), 3.1)
        >>> round(part_overhead_s([1, 1, 1], [head, tail, Part(frozenset({0, 1, 2}), 5.0)]), 6)
        0.2
    """
    estimated = _checked(estimated_s, parts)
    if len(parts) < 2:
        return 0.0
    seconds_of = {part.layers: part.seconds for part in parts}
    surplus = [
        a.seconds + b.seconds - seconds_of[union]
        for i, a in enumerate(parts)
        for b in parts[:i]
        if not a.layers & b.layers and (union := a.layers | b.layers) in seconds_of
    ]
    measured = np.array([part.seconds for part in parts])
    if surplus:
        overhead = float(np.median(surplus))
    else:
        sums = np.array([estimated[list(part.layers)].sum() for part in parts])
        columns = np.stack([np.ones(len(parts)), sums], axis=1) / measured[:, None]
        overhead = float(np.linalg.lstsq(columns, np.ones(len(parts)), rcond=None)[0][0])
    return min(max(overhead, 0.0), float(measured.min()))


def _checked(estimated_s: ArrayLike, parts: Sequence[Part]) -> NDArray[np.float64]:
    """Return the estimates as an array of their own."""
    estimated = np.array(estimated_s, dtype=np.float64)
    if estimated.ndim != 1 or not (np.isfinite(estimated).all() and (estimated >= 0).all()):
        raise ValueError("estimates must be one row of finite numbers that are not negative")
    for part in parts:
        if not part.layers or not 0 <= min(part.layers) <= max(part.layers) < len(estimated):
            raise ValueError(
                f"a part must have layers, all in 0 .. {len(estimated) - 1}: {sorted(part.layers)}"
            )
        if not (np.isfinite(part.seconds) and part.seconds > 0):
            raise ValueError(f"a part must take a positive time, got {part.seconds}")
    return estimated

"""Cut a network in two for a stream as DADS does under heavy load; ``min_max`` is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from isthmus.planning.min_cut import min_cut
from isthmus.planning.partition import Partition, PartitionProblem, bottleneck_of

__all__ = ["dads_heavy_published"]

_MOST_POINTS = 9
_MOST_ZOOMS = 8
_LEAST_GAIN_RATIO = 1e-3


def dads_heavy_published(problem: PartitionProblem) -> Partition:
    """Return a partition of small bottleneck, by a search over weighted minimum cuts.

    The device's times are multiplied by alpha and the server's by gamma, the link's stay as they
    are, and the least cut of that is a candidate. A first grid has alpha from 0 to
    ``sum(device_s) / least transfer`` and gamma likewise, in steps of 1, and always (1, 1), whose
    cut has at most three times the least bottleneck. Then the search zooms to one step around
    the best, in half steps, as long as that gains 0.1 %, 8 times at most.
    ``Partition.cost_s`` is the bottleneck. Ties go to the candidate found first, (1, 1) leading.

    Returns:
        The best candidate; ``error_s`` is what the factor three proves, far more than the truth.
        Complexity: at most 9 x 9 minimum cuts, and 5 x 5 for each zoom.

    References:
        Hu et al. (DADS), INFOCOM 2019, algorithm DSH. *Departs*: the published first grid has
        about (all layers' time / the smallest tensor's) points a side; where these are more than
        9, they are 0 and 8 in geometric steps from 1 on.
    """
    sent_s = [value for value in problem.transfer_s.values() if 0 < value < np.inf]
    totals_s = (float(problem.device_s.sum()), float(problem.server_s.sum()))
    sides = [_first_points(total_s / min(sent_s) if sent_s else 1.0) for total_s in totals_s]
    light = min_cut(problem)
    best, at = bottleneck_of(problem, light.device_layers), (1.0, 1.0)
    for zoom in range(1 + _MOST_ZOOMS):
        before_s = best.cost_s
        for alpha, gamma in product(*sides):
            found = _weighted_cut(problem, alpha, gamma)
            if found.cost_s < best.cost_s:
                best, at = found, (alpha, gamma)
        if zoom > 0 and not best.cost_s < before_s * (1 - _LEAST_GAIN_RATIO):
            break
        sides = [_around(value, points) for value, points in zip(at, sides, strict=True)]
    least_s = (light.cost_s - light.error_s) / 3
    return replace(best, error_s=max(0.0, best.cost_s - least_s))


def _first_points(most: float) -> list[float]:
    if most < _MOST_POINTS - 1:
        return [0.0, 1.0, *(float(point) for point in range(2, int(most) + 1))]
    return [0.0, *np.geomspace(1.0, most, _MOST_POINTS - 1).tolist()]


def _around(value: float, points: Sequence[float]) -> list[float]:
    """Return the point, its neighbours and the middles between them."""
    below = max((point for point in points if point < value), default=value)
    above = min((point for point in points if point > value), default=value)
    return sorted({below, (below + value) / 2, value, (value + above) / 2, above})


def _weighted_cut(problem: PartitionProblem, alpha: float, gamma: float) -> Partition:
    weighted = replace(
        problem, device_s=alpha * problem.device_s, server_s=gamma * problem.server_s
    )
    return bottleneck_of(problem, min_cut(weighted).device_layers)

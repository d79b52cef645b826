"""Sweep: where along one condition the decision changes, exactly. It decides nothing by itself.

Along the uplink's time per byte ``t`` (or a slowdown ``t``), all else fixed, each plan's mean
latency is one line, or the higher of two while its unit is not ready, and its variance is
``v + w t^2``. So the decision can change only where the chosen plan's line meets another one
(times ``PREFERENCE_RATIO`` if a site is preferred), or where a plan's mean plus the safety
margin meets the deadline: a root of a quadratic. ``decide`` says which of these
points count.

Energy, throughput, hedges, slow start, and a link whose rate and round trip err together make
curves of other kinds: there the decision is asked for at ``_SAMPLES`` places, and where two
neighbours differ, the place between is found by halving.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.columns import BASES, numbers_of
from isthmus.planning.decide import PREFERENCE_RATIO, decide, will_be_late
from isthmus.planning.prediction import spread_s
from isthmus.planning.view import view_of
from isthmus.types.conditions import Conditions
from isthmus.types.plan import Plan, PlanTable, Rules

__all__ = ["Axis", "Stretch", "sweep", "value_of", "with_value"]

Axis = Literal["uplink_bytes_per_s", "server_slowdown", "device_slowdown"]

_BESIDE = 1e-9
"""Relative distance from a point at which the decision beside it is asked for."""

_SAMPLES = 256
_HALVINGS = 48
"""From a 256th of any axis to less than a relative 1e-12."""


@dataclass(frozen=True)
class Stretch:
    """A part of an axis on which one plan is chosen.

    Attributes:
        low: Where it begins, in the axis' unit.
        high: Where it ends.
        plan: What is chosen, predicted at the stretch's geometric middle.
        is_late: Whether it is chosen though it will probably miss the deadline.
    """

    low: float
    high: float
    plan: Plan
    is_late: bool


def value_of(conditions: Conditions, axis: Axis) -> float:
    """Return where conditions are on an axis."""
    if axis == "uplink_bytes_per_s":
        return conditions.link.uplink_bytes_per_s
    return conditions.server_slowdown if axis == "server_slowdown" else conditions.device_slowdown


def with_value(conditions: Conditions, axis: Axis, value: float) -> Conditions:
    """Return the same conditions at another place on an axis; relative spreads stay."""
    if axis == "uplink_bytes_per_s":
        return replace(conditions, link=replace(conditions.link, uplink_bytes_per_s=value))
    if axis == "server_slowdown":
        return replace(conditions, server_slowdown=value)
    return replace(conditions, device_slowdown=value)


def sweep(
    table: PlanTable, conditions: Conditions, rules: Rules, axis: Axis, low: float, high: float
) -> tuple[Stretch, ...]:
    """Return what ``decide`` chooses along one axis, from ``low`` to ``high``.

    Args:
        table: All plans, ``P`` of them.
        conditions: Everything that does not change.
        rules: What the user asks for.
        axis: What changes.
        low: Where the sweep begins, positive, in the axis' unit.
        high: Where it ends, more than ``low``.

    Returns:
        Stretches that follow one another without a gap; neighbours differ in the plan, or in
        whether it is late. Their ends are exact up to rounding; but under rules and conditions
        that make curves (see above) a stretch may be missed that is shorter than one
        ``_SAMPLES``-th of the sweep on a logarithmic scale.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If some conditions cannot be computed with.
        ValueError: If the ends are not positive and ascending.

    Complexity: O(P) decisions for each stretch.
    """
    if not 0 < low < high < math.inf:
        raise ValueError(f"a sweep needs 0 < low < high, got {low} and {high}")

    def plan_at(value: float) -> Plan:
        return decide(table, with_value(conditions, axis, value), rules)

    if _has_curves(conditions, rules):
        return _sampled(plan_at, low, high)
    points_of = _points(table, conditions, rules, axis)
    found: list[Stretch] = []
    begin = low
    while begin < high:
        plan = plan_at(begin * (1 + _BESIDE))
        points = [p for p in points_of(plan.index) if begin * (1 + _BESIDE) < p < high]
        end = _first_change(plan, [*points, high], plan_at)
        if found and _key(found[-1].plan) == _key(plan):  # not a change, but rounding
            begin = found.pop().low
        middle = plan_at(math.sqrt(begin * end)) if end > begin * (1 + 4 * _BESIDE) else plan
        found.append(
            Stretch(begin, end, middle if _key(middle) == _key(plan) else plan, will_be_late(plan))
        )
        begin = end
    return tuple(found)


def _first_change(plan: Plan, points: list[float], plan_at: Callable[[float], Plan]) -> float:
    """Return the first of ascending points behind which another plan is chosen, or the last."""
    for point, following in pairwise(points):
        if _key(plan_at(math.sqrt(point * following))) != _key(plan):
            return point
    return points[-1]


def _key(plan: Plan) -> tuple[int, bool]:
    return plan.index, will_be_late(plan)


def _has_curves(conditions: Conditions, rules: Rules) -> bool:
    return (
        rules.objective not in ("least_latency", "most_accurate")
        or rules.hedge_above_ratio is not None
        or conditions.window_bytes < math.inf
        or conditions.link.uplink_rtt_correlation != 0
    )


def _sampled(plan_at: Callable[[float], Plan], low: float, high: float) -> tuple[Stretch, ...]:
    """Return the stretches that samples tell apart, their ends found by halving."""
    values = np.geomspace(low, high, _SAMPLES + 1).tolist()
    values[0], values[-1] = low, high
    keys = [_key(plan_at(value)) for value in values]
    ends = []
    for (left, key), (right, following) in pairwise(zip(values, keys, strict=True)):
        while key != following and left < right:
            begin, one, end = left, key, right
            for _ in range(_HALVINGS):
                middle = math.sqrt(begin * end)
                found = _key(plan_at(middle))
                begin, end = (middle, end) if found == one else (begin, middle)
            left, key = end, _key(plan_at(end))
            ends.append(end)
    found_stretches = []
    for start, stop in pairwise([low, *ends, high]):
        first, plan = plan_at(start), plan_at(math.sqrt(start * stop))
        plan = plan if _key(plan) == _key(first) else first
        found_stretches.append(Stretch(start, stop, plan, will_be_late(plan)))
    return tuple(found_stretches)


def _points(
    table: PlanTable, conditions: Conditions, rules: Rules, axis: Axis
) -> Callable[[int], list[float]]:
    """Return a function from a plan's row to the places, ascending, where it may be replaced."""
    view = view_of(table, conditions, replace(rules, objective="least_latency", mode="auto"))
    is_uplink = axis == "uplink_bytes_per_s"
    base = BASES.index("uplink" if is_uplink else axis)
    numbers = numbers_of(conditions, view.decode_targets)
    features = np.array([numbers.features[feature] for _, feature in view.sources])
    is_moving = np.array([source == base for source, _ in view.sources], bool)
    values = np.array([numbers.values[source] for source, _ in view.sources])
    fixed_x, moving_x = np.where(is_moving, 0.0, values * features), features * is_moving
    constants, slopes = view.totals @ fixed_x, view.totals @ moving_x
    owners = list(range(len(view.candidates)))
    for unit, ready_s in conditions.unit_ready_s.items():
        for position in view.units.get(unit, ()):
            waits = view.candidates[position].waits
            arrival = view.arrivals[position]
            owners.append(position)
            later_s = constants[position] + waits * (ready_s - arrival @ fixed_x)
            constants = np.append(constants, later_s)
            slopes = np.append(slopes, slopes[position] - waits * (arrival @ moving_x))
    rows = np.array([view.candidates[owner].row_index for owner in owners])

    at_zero = numbers._replace(
        values=_with(numbers.values, base, 0.0),
        sds=_with(numbers.sds, base, 0.0) if is_uplink else numbers.sds,
    )
    at_one = numbers._replace(
        values=_with(numbers.values, base, 1.0),
        sds=_with(numbers.sds, base, conditions.link.uplink_sd_ratio) if is_uplink else numbers.sds,
    )
    variance = np.array([spread_s(view.candidates[owner], at_zero) ** 2 for owner in owners])
    growth = np.array([spread_s(view.candidates[owner], at_one) ** 2 for owner in owners])
    deadlines: NDArray[np.float64] = np.empty(0)
    if rules.deadline_s is not None:
        left_s = rules.deadline_s - constants
        z = conditions.safety_sds
        deadlines = _meets(left_s, slopes, variance, growth - variance, z)
    factors: tuple[float, ...] = (1.0,)
    if rules.mode.startswith("prefer_"):
        factors = (1.0, PREFERENCE_RATIO, 1 / PREFERENCE_RATIO)

    def points_of(row: int) -> list[float]:
        moving = [deadlines]
        for own in np.flatnonzero(rows == row):
            for factor in factors:
                with np.errstate(divide="ignore", invalid="ignore"):
                    moving.append(
                        (factor * constants - constants[own]) / (slopes[own] - factor * slopes)
                    )
        met = np.concatenate(moving)
        met = met[np.isfinite(met) & (met > 0)]
        found: list[float] = np.unique(1 / met if is_uplink else met).tolist()
        return found

    return points_of


def _with(values: tuple[float, ...], index: int, value: float) -> tuple[float, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _meets(
    left_s: NDArray[np.float64],
    slopes: NDArray[np.float64],
    variance: NDArray[np.float64],
    growth: NDArray[np.float64],
    safety_sds: float,
) -> NDArray[np.float64]:
    """Return all t at which ``left - slope t`` is ``safety_sds sqrt(variance + growth t^2)``.

    Others may be among them, where nothing meets; some may not be numbers.
    """
    k = safety_sds**2
    a = slopes**2 - k * growth
    half = left_s * slopes
    c = left_s**2 - k * variance
    # half^2 - a c, written so that nothing cancels: without any spread both roots are one.
    discriminant = k * (slopes**2 * variance + growth * left_s**2 - k * growth * variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = half + np.copysign(np.sqrt(np.maximum(discriminant, 0.0)), half)
        return np.concatenate([q / a, c / q])

"""Decide: which row of a plan table to run under given conditions. It runs nothing.

For plan ``p`` and conditions ``x`` with covariance ``D D'`` (``planning.columns``), and ``c`` the
sum of the plan's coefficients over all stages::

    arrival  = sum of the stages before `wait`
    wait     = max(0, unit ready - arrival)   for remote rows
    mean     = c x + wait
    variance = |c D|^2 + residual^2 + (sent_bytes_sd * seconds per byte)^2

A plan that leaves at its exit with probability ``q`` skips all stages after ``head``: those count
``1 - q`` in ``c`` and in the wait, so that ``mean = q * (end of head) + (1 - q) * all``. The
spread *between* its two ends is not in the variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError, NoPlanError
from isthmus.planning.columns import BASES, conditions_matrix
from isthmus.types.conditions import Conditions
from isthmus.types.plan import STAGES, Plan, PlanTable, Rules

__all__ = ["SAFETY_SDS", "Decisions", "decide", "decide_many"]

SAFETY_SDS = 1.64
"""Standard deviations kept between the mean and the deadline: 95 % of a normal distribution."""

_AFTER_HEAD = STAGES.index("head") + 1
_WAIT = STAGES.index("wait")
_MASKS_KEPT = 64
_ANY = Rules()

_Filter = tuple[frozenset[str] | None, frozenset[str] | None, bool]


@dataclass(frozen=True, eq=False)
class Decisions:
    """What was decided for each of ``N`` conditions.

    Attributes:
        index: Row of the table, int ``[N]``.
        latency_s: Predicted mean latency, float64 ``[N]``, seconds.
        latency_sd_s: Predicted standard deviation, float64 ``[N]``, seconds.
        slack_s: Deadline minus mean minus ``SAFETY_SDS`` standard deviations, float64 ``[N]``,
            seconds; infinite without a deadline.
    """

    index: NDArray[np.intp]
    latency_s: NDArray[np.float64]
    latency_sd_s: NDArray[np.float64]
    slack_s: NDArray[np.float64]


def decide(table: PlanTable, conditions: Conditions, rules: Rules = _ANY) -> Plan:
    """Return the plan to run: ``decide_many`` for one instant, with the stages told apart.

    Args:
        table: All plans.
        conditions: The instant.
        rules: What the user asks for; the most accurate of all plans by default.

    Returns:
        The plan; its ``stages_s`` add up to ``latency_s``, its ``sent_bytes`` include the
        photograph if it is sent.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If the conditions cannot be computed with.
    """
    ready = _prepared(table)
    matrix = conditions_matrix(table.columns, conditions)
    decisions = _decide(table, ready, (conditions,), matrix[None], rules)
    index = int(decisions.index[0])
    latency_s = float(decisions.latency_s[0])
    row = table.rows[index]
    stages = (ready.weights[index] * (table.coefficients[index] @ matrix[:, 0])).tolist()
    if conditions.unit_ready_s and not row.is_local:
        arrival_s = float(ready.arrivals[index] @ matrix[:, 0])
        wait_s = max(0.0, conditions.unit_ready_s.get(row.unit, 0.0) - arrival_s)
        stages[_WAIT] = wait_s * float(ready.weights[index, _WAIT])
    image = conditions.image
    return Plan(
        row=row,
        index=index,
        latency_s=latency_s,
        latency_sd_s=float(decisions.latency_sd_s[0]),
        accuracy=float(table.accuracy[index]),
        sent_bytes=float(table.sent_bytes[index])
        + (float(ready.files[index]) * image.file_bytes if image else 0.0),
        slack_s=float(decisions.slack_s[0]),
        stages_s=dict(zip(STAGES, stages, strict=True)),
    )


def decide_many(
    table: PlanTable, conditions: Sequence[Conditions], rules: Rules = _ANY
) -> Decisions:
    """Return the row to run for each of many instants.

    Rows that the rules exclude, remote rows while the server is not available, and rows whose
    unit is never ready do not take part. ``least_latency`` takes the least mean latency;
    ``most_accurate`` takes the greatest accuracy among the rows whose mean plus ``SAFETY_SDS``
    standard deviations is within the deadline (without a deadline: among all rows), or the least
    mean latency if there is none. Ties go to the lower latency, then to fewer bytes, then to the
    earlier row.

    Args:
        table: All plans, ``P`` of them.
        conditions: ``N`` instants.
        rules: What the user asks for; the most accurate of all plans by default.

    Returns:
        One entry for each instant, in their order.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan at some instant.
        ConditionsError: If some conditions cannot be computed with.

    Complexity: O(N P K) for K columns.
    """
    shape = (len(conditions), len(table.columns), 1 + len(BASES))
    matrices = np.empty(shape)
    for position, one in enumerate(conditions):
        matrices[position] = conditions_matrix(table.columns, one)
    return _decide(table, _prepared(table), conditions, matrices, rules)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What is computed once for each table; it must not hold the table itself.

    Attributes:
        totals: Coefficients summed over the stages, those after an exit weighted, ``[P, K]``.
        arrivals: Coefficients summed over the stages before ``wait``, ``[P, K]``.
        weights: How often each stage is taken, ``[P, S]``.
        wait_weight: How often the row waits for its unit, 0 for local rows, ``[P]``.
        variance: Residual variance, ``[P]``, seconds squared.
        files: How often the photograph itself is sent, ``[P]``.
        is_local: Bool ``[P]``.
        units: Rows by the name of the server's unit that they need.
        masks: Rows that a rule's filters leave, by those filters.
    """

    totals: NDArray[np.float64]
    arrivals: NDArray[np.float64]
    weights: NDArray[np.float64]
    wait_weight: NDArray[np.float64]
    variance: NDArray[np.float64]
    files: NDArray[np.float64]
    is_local: NDArray[np.bool_]
    units: Mapping[str, tuple[int, ...]]
    masks: dict[_Filter, NDArray[np.bool_]]


_tables: WeakKeyDictionary[PlanTable, _Prepared] = WeakKeyDictionary()


def _prepared(table: PlanTable) -> _Prepared:
    """Return what is computed once for ``table``; forgotten when the table is."""
    found = _tables.get(table)
    if found is None:
        found = _tables[table] = _prepare(table)
    return found


def _prepare(table: PlanTable) -> _Prepared:
    weights = np.ones((len(table.rows), len(STAGES)))
    weights[:, _AFTER_HEAD:] -= table.exit_probability[:, None]
    is_local = np.array([row.is_local for row in table.rows], bool)
    units: dict[str, tuple[int, ...]] = {}
    for index in np.flatnonzero(~is_local).tolist():
        name = table.rows[index].unit
        units[name] = (*units.get(name, ()), index)
    return _Prepared(
        totals=np.einsum("ps,psk->pk", weights, table.coefficients),
        arrivals=table.coefficients[:, :_WAIT].sum(axis=1),
        weights=weights,
        wait_weight=np.where(is_local, 0.0, weights[:, _WAIT]),
        variance=table.residual_s**2,
        files=table.coefficients[:, STAGES.index("upload"), table.columns.index("uplink_file_s")]
        if "uplink_file_s" in table.columns
        else np.zeros(len(table.rows)),
        is_local=is_local,
        units=units,
        masks={},
    )


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused at the end
def _decide(
    table: PlanTable,
    ready: _Prepared,
    conditions: Sequence[Conditions],
    matrices: NDArray[np.float64],
    rules: Rules,
) -> Decisions:
    """Decide for conditions whose matrices ``[N, K, 1 + B]`` are made."""
    if not table.rows:
        raise NoPlanError("the plan table has no rows")
    mean = (ready.totals @ matrices[:, :, :1])[:, :, 0]  # one by one, so N does not change a bit
    allowed = _mask(table, ready, rules)[None]
    if not all(one.is_server_available for one in conditions):
        available = np.array([one.is_server_available for one in conditions])
        allowed = allowed & (available[:, None] | ready.is_local)
    if any(one.unit_ready_s for one in conditions):
        ready_s = _ready_s(ready, conditions)
        allowed = allowed & (ready_s < math.inf)
        arrival_s = (ready.arrivals @ matrices[:, :, :1])[:, :, 0]
        wait_s = np.maximum(np.where(allowed, ready_s, 0.0) - arrival_s, 0.0)
        mean += wait_s * ready.wait_weight
    cost = np.where(allowed, mean, math.inf)
    if rules.objective == "least_latency" or rules.deadline_s is None:
        if rules.objective == "most_accurate":
            accuracy = np.where(cost < math.inf, table.accuracy, -1.0)
            cost[accuracy < accuracy.max(axis=1, keepdims=True)] = math.inf
        index, latency_s = _first_least(table, ready, conditions, cost)
        latency_sd_s = _spread_s(table, ready, conditions, matrices, index)[:, 0]
    else:
        sd_s = _spread_s(table, ready, conditions, matrices, None)
        accuracy = np.where(cost + SAFETY_SDS * sd_s <= rules.deadline_s, table.accuracy, -1.0)
        cost[accuracy < accuracy.max(axis=1, keepdims=True)] = math.inf
        index, latency_s = _first_least(table, ready, conditions, cost)
        latency_sd_s = sd_s[np.arange(len(index)), index]
    if not np.isfinite(latency_s + latency_sd_s).all():
        has_plan = np.broadcast_to(allowed.any(axis=1), len(conditions))
        _refuse(table, ready, conditions, rules, has_plan)
    deadline_s = math.inf if rules.deadline_s is None else rules.deadline_s
    slack_s = deadline_s - latency_s - SAFETY_SDS * latency_sd_s
    return Decisions(index, latency_s, latency_sd_s, slack_s)


def _ready_s(ready: _Prepared, conditions: Sequence[Conditions]) -> NDArray[np.float64]:
    """Return when each row's unit can start, ``[N, P]``, seconds from now."""
    found = np.zeros((len(conditions), len(ready.is_local)))
    for n, one in enumerate(conditions):
        for unit, at_s in one.unit_ready_s.items():
            for index in ready.units.get(unit, ()):
                found[n, index] = at_s
    return found


def _spread_s(
    table: PlanTable,
    ready: _Prepared,
    conditions: Sequence[Conditions],
    matrices: NDArray[np.float64],
    index: NDArray[np.intp] | None,
) -> NDArray[np.float64]:
    """Return the latency's standard deviations, seconds.

    Those of all rows, ``[N, P]``, or of one row ``index[n]`` for each instant, ``[N, 1]``.
    """
    totals, residual, sent_sd = ready.totals, ready.variance, table.sent_bytes_sd
    if index is not None:
        rows = index[:, None]
        totals, residual, sent_sd = totals[rows], residual[rows], sent_sd[rows]
    spreads = totals @ matrices[:, :, 1:]
    variance: NDArray[np.float64] = np.einsum("nrb,nrb->nr", spreads, spreads)
    variance += residual
    s_per_byte = np.array([1.0 / one.link.uplink_bytes_per_s for one in conditions])[:, None]
    variance += (s_per_byte * sent_sd) ** 2
    return np.sqrt(variance, out=variance)


def _first_least(
    table: PlanTable,
    ready: _Prepared,
    conditions: Sequence[Conditions],
    cost: NDArray[np.float64],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the rows of least cost ``[N, P]`` and those costs.

    Ties go to fewer bytes, then to the earlier row.
    """
    index: NDArray[np.intp] = cost.argmin(axis=1)
    least: NDArray[np.float64] = cost[np.arange(len(index)), index]
    ties = cost == least[:, None]
    if np.count_nonzero(ties) > len(index):
        for n in np.flatnonzero(np.count_nonzero(ties, axis=1) > 1).tolist():
            image = conditions[n].image
            tied = np.flatnonzero(ties[n])
            sent = table.sent_bytes + ready.files * (image.file_bytes if image else 0)
            index[n] = tied[sent[tied].argmin()]
    return index, least


def _mask(table: PlanTable, ready: _Prepared, rules: Rules) -> NDArray[np.bool_]:
    """Return which rows the rules leave, ``[P]``; kept for the last few filters."""
    key = (rules.variants, rules.families, rules.no_pixels_leave)
    mask = ready.masks.get(key)
    if mask is None:
        mask = np.ones(len(table.rows), bool)
        for excluded in _exclusions(table, rules).values():
            mask &= ~excluded
        if len(ready.masks) >= _MASKS_KEPT:
            ready.masks.clear()
        ready.masks[key] = mask
    return mask


def _exclusions(table: PlanTable, rules: Rules) -> Mapping[str, NDArray[np.bool_]]:
    """Return which rows each rule excludes, by the rule in words."""
    found = {}
    if rules.variants is not None:
        names = rules.variants
        found[f"variants {sorted(names)}"] = np.array([r.variant not in names for r in table.rows])
    if rules.families is not None:
        kinds = rules.families
        found[f"families {sorted(kinds)}"] = np.array([r.family not in kinds for r in table.rows])
    if rules.no_pixels_leave:
        found["no_pixels_leave"] = np.array([r.has_pixels for r in table.rows])
    return found


def _refuse(
    table: PlanTable,
    ready: _Prepared,
    conditions: Sequence[Conditions],
    rules: Rules,
    has_plan: NDArray[np.bool_],
) -> None:
    """Say why nothing could be chosen.

    Raises:
        NoPlanError: If some instant has no row left.
        ConditionsError: If rows are left but their latency is not finite.
    """
    if has_plan.all():
        raise ConditionsError("the predicted latency is not finite under these conditions")
    one = conditions[int(has_plan.argmin())]
    found = dict(_exclusions(table, rules))
    if not one.is_server_available:
        found["the server is not available"] = ~ready.is_local
    never = {unit for unit in ready.units if one.unit_ready_s.get(unit, 0.0) == math.inf}
    if never:
        found[f"never ready: {sorted(never)}"] = np.array([r.unit in never for r in table.rows])
    reasons = "; ".join(f"{why} excludes {int(rows.sum())}" for why, rows in found.items())
    raise NoPlanError(f"none of {len(table.rows)} plans is left: {reasons}")

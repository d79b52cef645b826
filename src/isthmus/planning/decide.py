"""Decide: which row of a plan table to run under given conditions. It runs nothing.

For plan ``p`` and conditions ``x`` that move by ``d_b`` when base ``b`` moves by one standard
deviation (``planning.columns``), and ``c`` the sum of the plan's coefficients over all stages::

    arrival  = sum of the stages before `wait`
    wait     = max(0, unit ready - arrival)   for remote rows
    mean     = c x + wait
    variance = sum over b of (c d_b)^2 + residual^2 + (sent_bytes_sd * seconds per byte)^2

A plan that leaves at its exit with probability ``q`` skips all stages after ``head``: those count
``1 - q`` in ``c`` and in the wait, so that ``mean = q * (end of head) + (1 - q) * all``. The
spread *between* its two ends is not in the variance.

A decision is taken once a request, when the processor's caches hold something else, so that code
and data not touched count more than operations saved: the plans that may be chosen are laid out
once (``_View``), one product predicts them all, and the rest is plain numbers of one plan.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError, NoPlanError
from isthmus.planning.columns import BASES, Numbers, layout_of, numbers_of
from isthmus.types.conditions import Conditions
from isthmus.types.plan import STAGES, Plan, PlanRow, PlanTable, Rules

__all__ = ["SAFETY_SDS", "Decisions", "decide", "decide_many"]

SAFETY_SDS = 1.64
"""Standard deviations kept between the mean and the deadline: 95 % of a normal distribution."""

_AFTER_HEAD = STAGES.index("head") + 1
_WAIT = STAGES.index("wait")
_UPLINK = BASES.index("uplink")
_VIEWS_KEPT = 64
_ANY = Rules()
_NONE: frozenset[str] = frozenset()


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
    """Return the plan to run.

    Rows that the rules exclude, remote rows while the server is not available, and rows whose
    unit is never ready do not take part. ``least_latency`` takes the least mean latency;
    ``most_accurate`` takes the greatest accuracy among the rows whose mean plus ``SAFETY_SDS``
    standard deviations is within the deadline (without a deadline: among all rows), or the least
    mean latency if there is none. Ties go to the lower latency, then to fewer bytes, then to the
    earlier row.

    Args:
        table: All plans, ``P`` of them.
        conditions: The instant.
        rules: What the user asks for; the most accurate of all plans by default.

    Returns:
        The plan; its ``stages_s`` add up to ``latency_s``, its ``sent_bytes`` include the
        photograph if it is sent.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If the conditions cannot be computed with.

    Complexity: O(P K) for K columns; the first time under these rules O(P S K) for S stages.
    """
    view = _view(table, conditions, rules)
    numbers = numbers_of(conditions, view.decode_targets)
    values, features = numbers.values, numbers.features
    if not numbers.largest * view.largest < math.inf:
        raise ConditionsError("the predicted latency is not finite under these conditions")
    x = [values[base] * features[feature] for base, feature in view.sources]
    # `dot`, not `@`: it needs less than half the time when the caches are cold.
    latencies_s: list[float] = view.totals.dot(x).tolist()
    waits_s: Mapping[int, float] = {}
    if conditions.unit_ready_s:
        waits_s = _wait(view, conditions.unit_ready_s, x, latencies_s)
    file_bytes = conditions.image.file_bytes if conditions.image else 0
    if rules.deadline_s is not None and rules.objective == "most_accurate":
        limit_s = rules.deadline_s
        position = _most_accurate(view, numbers, latencies_s, limit_s, file_bytes)
    else:
        position = _first_least(view.candidates, latencies_s, file_bytes)
    latency_s, chosen = latencies_s[position], view.candidates[position]
    latency_sd_s = _spread_s(chosen, numbers)
    if not latency_s + latency_sd_s < math.inf:
        raise ConditionsError("the predicted latency is not finite under these conditions")
    stages_s = dict.fromkeys(STAGES, 0.0)
    for stage, base, feature, seconds in chosen.terms:
        stages_s[stage] += seconds * features[feature] * values[base]
    if waits_s:
        stages_s["wait"] = waits_s.get(position, 0.0)
    deadline_s = math.inf if rules.deadline_s is None else rules.deadline_s
    return Plan(
        row=chosen.row,
        index=chosen.row_index,
        latency_s=latency_s,
        latency_sd_s=latency_sd_s,
        accuracy=chosen.accuracy,
        sent_bytes=chosen.sent_bytes + chosen.files * file_bytes,
        slack_s=deadline_s - latency_s - SAFETY_SDS * latency_sd_s,
        stages_s=stages_s,
    )


def decide_many(
    table: PlanTable, conditions: Sequence[Conditions], rules: Rules = _ANY
) -> Decisions:
    """Return what ``decide`` chooses at each of many instants.

    Args:
        table: All plans.
        conditions: ``N`` instants.
        rules: What the user asks for; the most accurate of all plans by default.

    Returns:
        One entry for each instant, in their order.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan at some instant.
        ConditionsError: If some conditions cannot be computed with.
    """
    plans = [decide(table, one, rules) for one in conditions]
    return Decisions(
        index=np.array([plan.index for plan in plans], np.intp),
        latency_s=np.array([plan.latency_s for plan in plans], np.float64),
        latency_sd_s=np.array([plan.latency_sd_s for plan in plans], np.float64),
        slack_s=np.array([plan.slack_s for plan in plans], np.float64),
    )


class _Candidate(NamedTuple):
    """One row of a table as plain numbers.

    Attributes:
        row: What it does.
        row_index: Its row in the table.
        terms: Stage, base, feature and coefficient of all that is not zero; coefficients after
            an exit count as often as they are taken.
        residual_s: Standard deviation that the terms do not explain, seconds.
        accuracy: 0 to 1.
        sent_bytes: Mean bytes sent, the photograph not included.
        sent_bytes_sd: Their standard deviation.
        files: How often the photograph itself is sent.
        waits: How often it waits for its unit.
    """

    row: PlanRow
    row_index: int
    terms: tuple[tuple[str, int, int, float], ...]
    residual_s: float
    accuracy: float
    sent_bytes: float
    sent_bytes_sd: float
    files: float
    waits: float


class _View(NamedTuple):
    """The ``V`` rows of a table that may be chosen; it must not hold the table itself.

    Attributes:
        candidates: The rows, the most accurate first, then in the table's order.
        sources: Base and feature of each of the ``L`` columns that some row needs.
        decode_targets: See ``columns.Layout``.
        totals: Coefficients summed over the stages, float64 ``[V, L]``.
        arrivals: Coefficients summed over the stages before ``wait``, float64 ``[V, L]``.
        largest: The largest of ``totals``.
        units: Candidates by the name of the server's unit that they need.
    """

    candidates: tuple[_Candidate, ...]
    sources: tuple[tuple[int, int], ...]
    decode_targets: tuple[int, ...]
    totals: NDArray[np.float64]
    arrivals: NDArray[np.float64]
    largest: float
    units: Mapping[str, tuple[int, ...]]


_Restriction = tuple[frozenset[str] | None, frozenset[str] | None, bool, bool, bool, frozenset[str]]
_views: dict[int, dict[_Restriction, _View]] = {}
"""Views by the identity of their table, as long as it lives."""


def _view(table: PlanTable, conditions: Conditions, rules: Rules) -> _View:
    """Return the rows that may be chosen; the last few views are kept as long as the table is.

    Raises:
        NoPlanError: If there are none.
    """
    never = _NONE
    if conditions.unit_ready_s:
        never = frozenset(
            u for u, ready_s in conditions.unit_ready_s.items() if ready_s == math.inf
        )
    key = (
        rules.variants,
        rules.families,
        rules.no_pixels_leave,
        rules.deadline_s is None and rules.objective == "most_accurate",
        conditions.is_server_available,
        never,
    )
    views = _views.get(id(table))
    if views is None:
        views = _views[id(table)] = {}
        weakref.finalize(table, _views.pop, id(table)).atexit = False
    found = views.get(key)
    if found is None:
        found = _lay_out(table, _allowed(table, conditions, rules, never), is_best_only=key[3])
        if len(views) >= _VIEWS_KEPT:
            views.clear()
        views[key] = found
    return found


def _allowed(
    table: PlanTable, conditions: Conditions, rules: Rules, never: frozenset[str]
) -> NDArray[np.bool_]:
    """Return which rows may be chosen, ``[P]``.

    Raises:
        NoPlanError: If there are none, with the reasons.
    """
    if not table.rows:
        raise NoPlanError("the plan table has no rows")
    excluded = dict(_exclusions(table, rules))
    if not conditions.is_server_available:
        excluded["the server is not available"] = np.array([not r.is_local for r in table.rows])
    units = {row.unit for row in table.rows if not row.is_local}
    if never & units:
        excluded[f"never ready: {sorted(never & units)}"] = np.array(
            [not r.is_local and r.unit in never for r in table.rows]
        )
    allowed = np.ones(len(table.rows), bool)
    for rows in excluded.values():
        allowed &= ~rows
    if not allowed.any():
        reasons = "; ".join(f"{why} excludes {int(rows.sum())}" for why, rows in excluded.items())
        raise NoPlanError(f"none of {len(table.rows)} plans is left: {reasons}")
    return allowed


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


def _lay_out(table: PlanTable, allowed: NDArray[np.bool_], *, is_best_only: bool) -> _View:
    """Return the view of the allowed rows (at least one), or of the most accurate of them."""
    if is_best_only:
        allowed = allowed & (table.accuracy == table.accuracy[allowed].max())
    indices = sorted(np.flatnonzero(allowed).tolist(), key=lambda index: -table.accuracy[index])
    weighted = table.coefficients[indices]
    weighted[:, _AFTER_HEAD:] *= (1.0 - table.exit_probability[indices])[:, None, None]
    needed = np.flatnonzero(weighted.any(axis=(0, 1))).tolist()
    layout = layout_of([table.columns[column] for column in needed])
    weighted = weighted[:, :, needed]
    totals = weighted.sum(axis=1)
    units: dict[str, tuple[int, ...]] = {}
    for position, index in enumerate(indices):
        row = table.rows[index]
        if not row.is_local:
            units[row.unit] = (*units.get(row.unit, ()), position)
    return _View(
        tuple(
            _candidate(table, index, weighted[position], layout.sources)
            for position, index in enumerate(indices)
        ),
        layout.sources,
        layout.decode_targets,
        totals,
        table.coefficients[indices][:, :_WAIT, needed].sum(axis=1),
        float(totals.max(initial=0.0)),
        units,
    )


def _candidate(
    table: PlanTable,
    index: int,
    weighted: NDArray[np.float64],
    sources: Sequence[tuple[int, int]],
) -> _Candidate:
    """Return one row, whose coefficients ``[S, L]`` are weighted by how often they count."""
    stages, columns = np.nonzero(weighted)
    terms = zip(stages.tolist(), columns.tolist(), weighted[stages, columns].tolist(), strict=True)
    files = 0.0
    if "uplink_file_s" in table.columns:
        upload, file = STAGES.index("upload"), table.columns.index("uplink_file_s")
        files = float(table.coefficients[index, upload, file])
    return _Candidate(
        row=table.rows[index],
        row_index=index,
        terms=tuple((STAGES[stage], *sources[column], seconds) for stage, column, seconds in terms),
        residual_s=float(table.residual_s[index]),
        accuracy=float(table.accuracy[index]),
        sent_bytes=float(table.sent_bytes[index]),
        sent_bytes_sd=float(table.sent_bytes_sd[index]),
        files=files,
        waits=1.0 - float(table.exit_probability[index]),
    )


def _wait(
    view: _View, unit_ready_s: Mapping[str, float], x: list[float], latencies_s: list[float]
) -> Mapping[int, float]:
    """Add to the latencies what remains of the units' getting ready; return it by position."""
    waiting = {
        position: ready_s
        for unit, ready_s in unit_ready_s.items()
        for position in view.units.get(unit, ())
    }
    if waiting:
        arrivals_s = view.arrivals.dot(x).tolist()
        for position, ready_s in waiting.items():
            wait_s = max(0.0, ready_s - arrivals_s[position]) * view.candidates[position].waits
            latencies_s[position] += wait_s
            waiting[position] = wait_s
    return waiting


def _first_least(
    candidates: Sequence[_Candidate], latencies_s: Sequence[float], file_bytes: float
) -> int:
    """Return the position of the least latency, then of least bytes sent, then of least index."""
    least_s = min(latencies_s)
    first = latencies_s.index(least_s)
    if latencies_s.count(least_s) == 1:
        return first

    def bytes_and_index(position: int) -> tuple[float, int]:
        found = candidates[position]
        return found.sent_bytes + found.files * file_bytes, found.row_index

    tied = [position for position, s in enumerate(latencies_s) if s == least_s]
    return min(tied, key=bytes_and_index)


def _most_accurate(
    view: _View,
    numbers: Numbers,
    latencies_s: Sequence[float],
    deadline_s: float,
    file_bytes: float,
) -> int:
    """Return the first of the most accurate candidates in time; if none is, of all.

    Candidates come by falling accuracy, so few spreads are needed: only of those whose mean is
    within the deadline, none below the first accuracy that fits, none slower than what fits.
    """
    fitting: list[int] = []
    limit_s = deadline_s
    for position, latency_s in enumerate(latencies_s):
        if latency_s > limit_s:
            continue
        found = view.candidates[position]
        if fitting and found.accuracy < view.candidates[fitting[0]].accuracy:
            break
        if latency_s + SAFETY_SDS * _spread_s(found, numbers) <= deadline_s:
            fitting.append(position)
            limit_s = latency_s
    if not fitting:
        return _first_least(view.candidates, latencies_s, file_bytes)
    candidates = [view.candidates[position] for position in fitting]
    return fitting[_first_least(candidates, [latencies_s[p] for p in fitting], file_bytes)]


def _spread_s(candidate: _Candidate, numbers: Numbers) -> float:
    """Return the standard deviation of a candidate's latency, seconds."""
    features = numbers.features
    moved = [0.0] * len(BASES)
    for _, base, feature, seconds in candidate.terms:
        moved[base] += seconds * features[feature]
    sent_s = numbers.values[_UPLINK] * candidate.sent_bytes_sd
    variance = candidate.residual_s * candidate.residual_s + sent_s * sent_s
    for base, sd in enumerate(numbers.sds):
        moved_s = moved[base] * sd
        variance += moved_s * moved_s
    return math.sqrt(variance)

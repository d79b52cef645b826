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

The plans that may be chosen are laid out once (``planning.view``), one product predicts them all,
and the rest is plain numbers of one plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError, NoPlanError
from isthmus.planning.columns import Numbers, numbers_of
from isthmus.planning.view import Candidate, View, add_waits, spread_s, view_of
from isthmus.types.conditions import Conditions
from isthmus.types.plan import SITE_FAMILIES, STAGES, Plan, PlanTable, Rules

__all__ = ["PREFERENCE_RATIO", "SAFETY_SDS", "Decisions", "decide", "decide_many", "predict"]

SAFETY_SDS = 1.64
"""Standard deviations kept between the mean and the deadline: 95 % of a normal distribution."""

PREFERENCE_RATIO = 1.2
"""Without a deadline, a preferred plan may take this many times as long as the best of all."""

_ANY = Rules()
_PREFERRED_SITES = {"prefer_device": "device", "prefer_edge": "edge"}


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

    ``prefer_device`` and ``prefer_edge`` decide twice: among the plans of that site
    (``SITE_FAMILIES``), and among all. With a deadline the site's plan is taken if its slack is
    not negative. Without one it is taken if its latency is at most ``PREFERENCE_RATIO`` times
    that of the best of all, and, unless latency alone is asked for, its accuracy is no lower.
    Otherwise, or if the site has no plan, the best of all is taken.

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
    if rules.mode in _PREFERRED_SITES:
        return _decide_preferring(table, conditions, rules)
    view = view_of(table, conditions, rules)
    numbers, latencies_s, waits_s = _predicted(view, conditions)
    file_bytes = conditions.image.file_bytes if conditions.image else 0
    if rules.deadline_s is not None and rules.objective == "most_accurate":
        limit_s = rules.deadline_s
        position = _most_accurate(view, numbers, latencies_s, limit_s, file_bytes)
    else:
        position = _first_least(view.candidates, latencies_s, file_bytes)
    latency_s, wait_s = latencies_s[position], waits_s.get(position, 0.0)
    return _plan(view.candidates[position], latency_s, wait_s, numbers, rules, file_bytes)


def predict(table: PlanTable, conditions: Conditions, rules: Rules = _ANY) -> tuple[Plan, ...]:
    """Return what every plan that may be chosen would cost, in the table's order.

    Args:
        table: All plans.
        conditions: The instant.
        rules: What excludes plans, and the deadline that their slack refers to.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If the conditions cannot be computed with.
    """
    view = view_of(table, conditions, replace(rules, objective="least_latency"))
    numbers, latencies_s, waits_s = _predicted(view, conditions)
    file_bytes = conditions.image.file_bytes if conditions.image else 0
    plans = [
        _plan(candidate, latencies_s[i], waits_s.get(i, 0.0), numbers, rules, file_bytes)
        for i, candidate in enumerate(view.candidates)
    ]
    return tuple(sorted(plans, key=lambda plan: plan.index))


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


def _decide_preferring(table: PlanTable, conditions: Conditions, rules: Rules) -> Plan:
    """Return the plan of the preferred site if it is good enough, else the best of all."""
    at_site, anywhere = _without_preference(rules)
    try:
        preferred = decide(table, conditions, at_site)
    except NoPlanError:
        return decide(table, conditions, anywhere)
    if rules.deadline_s is not None and preferred.slack_s >= 0:
        return preferred
    best = decide(table, conditions, anywhere)
    is_enough = (
        rules.deadline_s is None
        and preferred.latency_s <= PREFERENCE_RATIO * best.latency_s
        and (rules.objective == "least_latency" or preferred.accuracy >= best.accuracy)
    )
    return preferred if is_enough else best


@lru_cache(maxsize=64)
def _without_preference(rules: Rules) -> tuple[Rules, Rules]:
    """Return the rules for the preferred site alone, and those for anywhere."""
    families = SITE_FAMILIES[_PREFERRED_SITES[rules.mode]]
    if rules.families is not None:
        families &= rules.families
    return replace(rules, mode="auto", families=families), replace(rules, mode="auto")


def _predicted(
    view: View, conditions: Conditions
) -> tuple[Numbers, list[float], Mapping[int, float]]:
    """Return the conditions as numbers, and each candidate's mean latency and wait, seconds.

    Raises:
        ConditionsError: If a latency is not finite.
    """
    numbers = numbers_of(conditions, view.decode_targets)
    values, features = numbers.values, numbers.features
    if not numbers.largest * view.largest < math.inf:
        raise ConditionsError("the predicted latency is not finite under these conditions")
    x = [values[base] * features[feature] for base, feature in view.sources]
    # `dot`, not `@`: it needs less than half the time when the caches are cold.
    latencies_s: list[float] = view.totals.dot(x).tolist()
    waits_s: Mapping[int, float] = {}
    if conditions.unit_ready_s:
        waits_s = add_waits(view, conditions.unit_ready_s, x, latencies_s)
    return numbers, latencies_s, waits_s


def _plan(
    chosen: Candidate,
    latency_s: float,
    wait_s: float,
    numbers: Numbers,
    rules: Rules,
    file_bytes: float,
) -> Plan:
    """Return a candidate as a plan.

    Raises:
        ConditionsError: If its latency is not finite.
    """
    latency_sd_s = spread_s(chosen, numbers)
    if not latency_s + latency_sd_s < math.inf:
        raise ConditionsError("the predicted latency is not finite under these conditions")
    values, features = numbers.values, numbers.features
    stages_s = dict.fromkeys(STAGES, 0.0)
    for stage, base, feature, seconds in chosen.terms:
        stages_s[stage] += seconds * features[feature] * values[base]
    stages_s["wait"] = wait_s
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


def _first_least(
    candidates: Sequence[Candidate], latencies_s: Sequence[float], file_bytes: float
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
    view: View,
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
        if latency_s + SAFETY_SDS * spread_s(found, numbers) <= deadline_s:
            fitting.append(position)
            limit_s = latency_s
    if not fitting:
        return _first_least(view.candidates, latencies_s, file_bytes)
    candidates = [view.candidates[position] for position in fitting]
    return fitting[_first_least(candidates, [latencies_s[p] for p in fitting], file_bytes)]

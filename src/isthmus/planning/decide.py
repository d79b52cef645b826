"""Decide: which row of a plan table to run under given conditions. It runs nothing.

For plan ``p`` and conditions ``x`` that move by ``d_b`` when base ``b`` moves by one standard
deviation (``planning.columns``), and ``c`` the sum of the plan's coefficients over all stages::

    stall    = what TCP's slow start costs the message    for remote rows
    arrival  = sum of the stages before `wait`, stall included
    wait     = max(0, unit ready - arrival)               for remote rows
    mean     = c x + stall + wait
    variance = sum over b of (c d_b)^2 + residual^2 + (sent_bytes_sd * seconds per byte)^2
               + 2 rho (c d_uplink) (c d_rtt)
    in time  = mean + safety_sds * sd <= deadline

A plan that leaves at its exit with probability ``q`` skips all stages after ``head``: those count
``1 - q`` in ``c``, the stall and the wait: ``mean = q * (end of head) + (1 - q) * all``. The spread
*between* its two ends is not in the variance.

The plans that may be chosen are laid out once (``planning.view``), one product predicts them all
(``planning.prediction``), and the rest is plain numbers of a few plans. Many instants at once are
decided by ``planning.batch``, hedges by ``planning.hedging``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from isthmus.errors import ConditionsError, NoPlanError
from isthmus.planning.batch import AT_ONCE, Decisions, choose_many
from isthmus.planning.energy import energy_j
from isthmus.planning.hedging import (
    SAFE_RATIO,
    hedge_for,
    hedged_choice,
    in_time,
    late_ratio,
)
from isthmus.planning.objectives import TIE_RATIO, costs_of, intervals_of
from isthmus.planning.prediction import Prediction, first_least, predicted, spread_of, stall_s
from isthmus.planning.view import View, view_of
from isthmus.types.conditions import Conditions
from isthmus.types.plan import SITE_FAMILIES, STAGES, Plan, PlanTable, Rules

__all__ = [
    "PREFERENCE_RATIO", "Decisions",
    "decide", "decide_many", "intervals_s", "predict", "will_be_late",
]  # fmt: skip

PREFERENCE_RATIO = 1.2
"""Without a deadline, a preferred plan may take this many times as long as the best of all."""

_ANY = Rules()
_NO_STAGES_S = dict.fromkeys(STAGES, 0.0)
_PREFERRED_SITES = {"prefer_device": "device", "prefer_edge": "edge"}


def decide(table: PlanTable, conditions: Conditions, rules: Rules = _ANY) -> Plan:
    """Return the plan to run.

    Rows that the rules exclude, remote rows while the server is not available, and rows whose
    unit is never ready do not take part. In time are rows whose mean plus the safety margin is
    within the deadline; without a deadline all are. By objective:

    - ``least_latency``: the least mean latency, in time or not.
    - ``most_accurate``: the greatest accuracy among the rows in time.
    - ``least_energy``: the least of the device's energy (``planning.energy``) among those.
    - ``greatest_throughput``: the least bottleneck (``planning.objectives``) among those.

    If no row is in time, the least mean latency. Ties go to the lower latency, then to fewer
    bytes, then to the earlier row; energies and bottlenecks within a relative ``TIE_RATIO`` tie.

    If the rules allow hedges, a remote plan that is late too often gets one (``hedge_for``), and
    ``most_accurate`` may take a remote row that is in time only with its hedge
    (``hedged_choice``).

    ``prefer_device`` and ``prefer_edge`` decide twice: among the plans of that site
    (``SITE_FAMILIES``), and among all. With a deadline the site's plan is taken if its slack is
    not negative. Without one it is taken if its latency is at most ``PREFERENCE_RATIO`` times
    that of the best of all, and, if the most accurate is asked for, its accuracy is no lower.
    Otherwise, or if the site has no plan, the best of all is taken. A hedge is no reason to
    prefer a site, but the site's plan gets one like any other.

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
    now = predicted(view_of(table, conditions, rules), conditions)
    return _plan(now, _chosen(now, rules), rules)


def _chosen(now: Prediction, rules: Rules) -> int:
    """Return the position of the candidate to run."""
    objective, deadline_s = rules.objective, rules.deadline_s
    if objective == "most_accurate" and deadline_s is not None:
        fitting, near = in_time(now, deadline_s)
        if near and rules.hedge_above_ratio is not None:
            best = now.view.candidates[fitting[0]].accuracy if fitting else -1.0
            hedged = hedged_choice(
                now, near,
                best_accuracy=best, deadline_s=deadline_s, above_ratio=rules.hedge_above_ratio,
            )  # fmt: skip
            if hedged is not None:
                return hedged
        if len(fitting) == 1:
            return fitting[0]
        return first_least(now, fitting) if fitting else _fastest(now)
    if objective in ("least_energy", "greatest_throughput"):
        cheapest = _cheapest(now, costs_of(now, rules), deadline_s)
        return first_least(now, cheapest) if cheapest else _fastest(now)
    return _fastest(now)


def _fastest(now: Prediction) -> int:
    """Return the position of the least latency; ties are rare, and cost time only then."""
    latencies_s = now.latencies_s
    position = int(latencies_s.argmin())
    least = (latencies_s == latencies_s.item(position)).tobytes()
    if least.count(1) == 1:
        return position
    return first_least(now, [i for i, is_least in enumerate(least) if is_least])


def _cheapest(now: Prediction, costs: Sequence[float], deadline_s: float | None) -> list[int]:
    """Return the positions of the least cost, ties included, of all that are in time."""
    found: list[int] = []
    limit = math.inf
    for position in sorted(range(len(costs)), key=costs.__getitem__):
        if costs[position] > limit:
            break
        if deadline_s is not None and not _is_in_time(now, position, deadline_s):
            continue
        if not found:
            limit = costs[position] * (1.0 + TIE_RATIO)
        found.append(position)
    return found


def _is_in_time(now: Prediction, position: int, deadline_s: float) -> bool:
    latency_s = now.latencies_s.item(position)
    if latency_s > deadline_s:
        return False
    return latency_s + now.conditions.safety_sds * spread_of(now, position) <= deadline_s


def will_be_late(plan: Plan) -> bool:
    """Return whether a plan will probably miss its deadline, its hedge's answer counted."""
    if plan.slack_s >= 0:
        return False
    return plan.hedge is None or plan.hedge.late_ratio > SAFE_RATIO


def predict(table: PlanTable, conditions: Conditions, rules: Rules = _ANY) -> tuple[Plan, ...]:
    """Return what every plan that may be chosen would cost, in the table's order.

    Args:
        table: All plans.
        conditions: The instant.
        rules: What excludes plans, and the deadline that their slack and hedges refer to.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If the conditions cannot be computed with.
    """
    now = predicted(_view_of_all(table, conditions, rules), conditions)
    plans = [_plan(now, position, rules) for position in range(len(now.latencies_s))]
    return tuple(sorted(plans, key=lambda plan: plan.index))


def intervals_s(table: PlanTable, conditions: Conditions, rules: Rules = _ANY) -> dict[int, float]:
    """Return the seconds between two answers of a stream, by row of every plan that may be chosen.

    That is the plan's bottleneck (``planning.objectives``); its inverse is the throughput.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If the conditions cannot be computed with.
    """
    now = predicted(_view_of_all(table, conditions, rules), conditions)
    seconds = zip(now.view.candidates, intervals_of(now), strict=True)
    return {candidate.row_index: interval_s for candidate, interval_s in seconds}


def _view_of_all(table: PlanTable, conditions: Conditions, rules: Rules) -> View:
    """Return the view of all rows that the rules allow, whatever the objective."""
    return view_of(table, conditions, replace(rules, objective="least_latency"))


def decide_many(
    table: PlanTable, conditions: Sequence[Conditions], rules: Rules = _ANY
) -> Decisions:
    """Return what ``decide`` chooses at each of many instants.

    All rows are predicted at all instants at once. Where two rows are so close that rounding
    might decide, and under rules that prefer a site, ``decide`` itself is asked.

    Args:
        table: All plans.
        conditions: ``N`` instants.
        rules: What the user asks for; the most accurate of all plans by default.

    Returns:
        One entry for each instant, in their order: the same rows as ``decide``'s, and the same
        figures up to rounding.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan at some instant.
        ConditionsError: If some conditions cannot be computed with.
    """
    count = len(conditions)
    found = Decisions(
        np.full(count, -1, np.intp), np.zeros(count), np.zeros(count), np.zeros(count),
        np.zeros(count), np.full(count, -1, np.intp), np.full(count, math.inf),
    )  # fmt: skip
    clear = np.zeros(count, bool)
    if rules.mode not in _PREFERRED_SITES:
        for view, members in _by_view(table, conditions, rules):
            chosen, is_clear = choose_many(view, [conditions[n] for n in members], rules)
            at = np.array(members)
            clear[at] = is_clear
            for target, values in zip(vars(found).values(), vars(chosen).values(), strict=True):
                target[at] = values
    for n in np.flatnonzero(~clear).tolist():
        plan = decide(table, conditions[n], rules)
        late, hedge = plan.late_ratio, plan.hedge
        found.index[n], found.latency_s[n] = plan.index, plan.latency_s
        found.latency_sd_s[n], found.slack_s[n] = plan.latency_sd_s, plan.slack_s
        found.late_ratio[n] = late if hedge is None else hedge.late_ratio
        if hedge is not None:
            found.hedge_index[n], found.hedge_start_s[n] = hedge.index, hedge.start_s
    return found


def _by_view(
    table: PlanTable, conditions: Sequence[Conditions], rules: Rules
) -> Iterable[tuple[View, list[int]]]:
    """Yield views with instants at which their rows may be chosen, not too many at once."""
    alike: dict[tuple[bool, bool, bool, int, int], list[int]] = defaultdict(list)
    for n, now in enumerate(conditions):
        ready_s = id(now.unit_ready_s) if now.unit_ready_s else 0
        site = (now.is_server_available, now.decodes_alike, now.cloud is None)
        alike[*site, id(now.image), ready_s].append(n)
    groups: dict[int, tuple[View, list[int]]] = {}
    for members in alike.values():
        view = view_of(table, conditions[members[0]], rules)
        groups.setdefault(id(view), (view, []))[1].extend(members)
    for view, members in groups.values():
        parts = -(-len(members) * len(view.candidates) // AT_ONCE)
        step = -(-len(members) // parts)
        for first in range(0, len(members), step):
            yield view, members[first : first + step]


def _decide_preferring(table: PlanTable, conditions: Conditions, rules: Rules) -> Plan:
    """Return the plan of the preferred site if it is good enough, else the best of all."""
    at_site, anywhere = _without_preference(rules)
    try:
        preferred = decide(table, conditions, at_site)
    except NoPlanError:
        return decide(table, conditions, anywhere)
    if rules.deadline_s is not None and preferred.slack_s >= 0:
        return _with_hedge(table, conditions, preferred, anywhere)
    best = decide(table, conditions, anywhere)
    is_enough = (
        rules.deadline_s is None
        and preferred.latency_s <= PREFERENCE_RATIO * best.latency_s
        and (rules.objective != "most_accurate" or preferred.accuracy >= best.accuracy)
    )
    return preferred if is_enough else best


@lru_cache(maxsize=64)
def _without_preference(rules: Rules) -> tuple[Rules, Rules]:
    """Return the rules for the preferred site alone, and those for anywhere."""
    families = SITE_FAMILIES[_PREFERRED_SITES[rules.mode]]
    if rules.families is not None:
        families &= rules.families
    at_site = replace(rules, mode="auto", families=families, hedge_above_ratio=None)
    return at_site, replace(rules, mode="auto")


def _with_hedge(table: PlanTable, conditions: Conditions, plan: Plan, rules: Rules) -> Plan:
    """Return a plan with its hedge, if the rules allow one."""
    if not _wants_hedge(plan.late_ratio, rules):
        return plan
    now = predicted(view_of(table, conditions, rules), conditions)
    rows = [candidate.row_index for candidate in now.view.candidates]
    assert rules.deadline_s is not None  # or nothing would be late
    position = rows.index(plan.index)
    hedge = hedge_for(now, position, plan.late_ratio, deadline_s=rules.deadline_s)
    return replace(plan, hedge=hedge)


def _wants_hedge(late: float, rules: Rules) -> bool:
    return rules.hedge_above_ratio is not None and late >= rules.hedge_above_ratio


def _plan(now: Prediction, position: int, rules: Rules) -> Plan:
    """Return a candidate as a plan.

    Raises:
        ConditionsError: If its latency is not finite.
    """
    chosen, latency_s = now.view.candidates[position], now.latencies_s.item(position)
    latency_sd_s = spread_of(now, position)
    if not latency_s + latency_sd_s < math.inf:
        raise ConditionsError("the predicted latency is not finite under these conditions")
    x, stages_s = now.x, _NO_STAGES_S.copy()
    for stage, column, seconds in chosen.terms:
        stages_s[stage] += seconds * x[column]
    if now.rounds is not None:
        stages_s["upload"] += stall_s(now, position)
    stages_s["wait"] = now.waits_s.get(position, 0.0)
    slack_s, late, hedge = math.inf, 0.0, None
    safety_sds, deadline_s = now.conditions.safety_sds, rules.deadline_s
    if deadline_s is not None:
        slack_s = deadline_s - latency_s - safety_sds * latency_sd_s
        late = late_ratio(latency_s, latency_sd_s, deadline_s, safety_sds=safety_sds)
        if _wants_hedge(late, rules):
            hedge = hedge_for(now, position, late, deadline_s=deadline_s)
    return Plan(
        row=chosen.row,
        index=chosen.row_index,
        latency_s=latency_s,
        latency_sd_s=latency_sd_s,
        accuracy=chosen.accuracy,
        sent_bytes=chosen.sent_bytes + chosen.files * now.file_bytes,
        slack_s=slack_s,
        stages_s=stages_s,
        energy_j=energy_j(stages_s, rules.power),
        late_ratio=late,
        hedge=hedge,
    )

"""Explain: why one plan is chosen, what comes next, and what would have to change.

It predicts and decides by ``planning.decide`` alone, and prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.planning.decide import (
    PREFERENCE_RATIO,
    decide,
    intervals_s,
    predict,
    will_be_late,
)
from isthmus.planning.sweep import Axis, Stretch, sweep, value_of
from isthmus.planning.view import exclusions
from isthmus.types.conditions import Conditions
from isthmus.types.plan import Plan, PlanTable, Rules

__all__ = ["RANGES", "Explanation", "RunnerUp", "explain", "range_of"]

RANGES: Mapping[Axis, tuple[float, float]] = {
    "uplink_bytes_per_s": (1e2, 1e11),
    "server_slowdown": (1e-3, 1e6),
}
"""How far changes are looked for; what wins nowhere in there is said never to win."""


@dataclass(frozen=True)
class RunnerUp:
    """A plan that was not chosen.

    Attributes:
        plan: What it is, predicted now.
        later_s: How much longer it takes than the chosen one, seconds; negative if less.
        wins_at: For each axis of ``RANGES`` the value nearest to now at which it would be
            chosen, all else as it is; ``None`` where there is none.
    """

    plan: Plan
    later_s: float
    wins_at: Mapping[Axis, float | None]


@dataclass(frozen=True)
class Explanation:
    """Why a plan is chosen.

    Attributes:
        plan: The chosen one.
        runners_up: All others that the rules allow, best first.
        alternative: The best of them of another network, family or cut; ``None`` if there is none.
        excluded: How many plans each rule or condition excludes, by its name in words.
        stretches: For each axis of ``RANGES`` what is chosen along it, all else as it is.
        intervals_s: Seconds between the answers of a stream, by row of the table.
        why: Sentences.
    """

    plan: Plan
    runners_up: tuple[RunnerUp, ...]
    alternative: RunnerUp | None
    excluded: Mapping[str, int]
    stretches: Mapping[Axis, tuple[Stretch, ...]]
    intervals_s: Mapping[int, float]
    why: tuple[str, ...]


def explain(table: PlanTable, conditions: Conditions, rules: Rules) -> Explanation:
    """Return why ``decide`` chooses what it chooses.

    Runners-up come in the order of the objective: by latency; or those in time first, the more
    accurate, frugal or quick in a stream before the faster, and then those that would be late,
    the faster first. Ties go to fewer bytes, then to the earlier row. A preference for a site does
    not change their order, and a plan that is in time only with its hedge comes after those that
    are alone.

    Args:
        table: All plans.
        conditions: The instant.
        rules: What the user asks for.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If the conditions cannot be computed with.
    """
    chosen = decide(table, conditions, rules)
    paces_s = intervals_s(table, conditions, rules)
    plans = predict(table, conditions, rules)
    ranked = sorted(plans, key=lambda plan: _rank(plan, rules, paces_s))
    others = [plan for plan in ranked if plan.index != chosen.index]
    stretches: dict[Axis, tuple[Stretch, ...]] = {
        axis: sweep(table, conditions, rules, axis, *range_of(conditions, axis)) for axis in RANGES
    }
    runners_up = tuple(
        RunnerUp(
            plan,
            plan.latency_s - chosen.latency_s,
            {
                axis: _nearest(plan, parts, value_of(conditions, axis))
                for axis, parts in stretches.items()
            },
        )
        for plan in others
    )
    excluded = exclusions(table, conditions, rules)
    return Explanation(
        plan=chosen,
        runners_up=runners_up,
        alternative=next((r for r in runners_up if _what(r.plan) != _what(chosen)), None),
        excluded={reason: int(rows.sum()) for reason, rows in excluded.items()},
        stretches=stretches,
        intervals_s=paces_s,
        why=_why(chosen, ranked, conditions, rules, paces_s),
    )


def range_of(conditions: Conditions, axis: Axis) -> tuple[float, float]:
    """Return how far an axis is looked along; always beyond where it is now."""
    low, high = RANGES[axis]
    now = value_of(conditions, axis)
    return min(low, now / 10), max(high, now * 10)


def _rank(plan: Plan, rules: Rules, paces_s: Mapping[int, float]) -> tuple[float, ...]:
    last = (plan.latency_s, plan.sent_bytes, plan.index)
    if rules.objective == "least_latency":
        return last
    by_objective = {
        "most_accurate": -plan.accuracy,
        "least_energy": plan.energy_j,
        "greatest_throughput": paces_s[plan.index],
    }
    if plan.slack_s < 0:
        return (2.0 if will_be_late(plan) else 1.0, 0.0, *last)
    return (0.0, by_objective[rules.objective], *last)


def _what(plan: Plan) -> tuple[str, ...]:
    return plan.row.variant, plan.row.family, plan.row.cut_id


def _nearest(plan: Plan, stretches: tuple[Stretch, ...], now: float) -> float | None:
    """Return the value nearest to now, by its ratio, at which a plan is chosen."""
    ends = [
        min(max(now, stretch.low), stretch.high)
        for stretch in stretches
        if stretch.plan.index == plan.index
    ]
    return min(ends, key=lambda end: abs(math.log(end / now)), default=None)


def _why(
    chosen: Plan,
    plans: list[Plan],
    conditions: Conditions,
    rules: Rules,
    paces_s: Mapping[int, float],
) -> tuple[str, ...]:
    """Return the reasons in sentences; ``plans`` are all that are allowed, best first."""
    best = plans[0]
    found = []
    if rules.objective == "least_latency":
        found.append(f"Least latency is asked for, of {_count(len(plans), 'plan')}.")
        in_time = plans
    else:
        in_time = [plan for plan in plans if plan.slack_s >= 0]
        if rules.deadline_s is not None:
            found.append(
                f"{len(in_time)} of {_count(len(plans), 'plan')} will be done within "
                f"{_ms(rules.deadline_s)}, counting {conditions.safety_sds:.3g} standard "
                "deviations."
            )
    is_hedged_choice = chosen.slack_s < 0 and not will_be_late(chosen)
    if rules.objective == "least_latency" or (not in_time and not is_hedged_choice):
        if not in_time:
            found.append("No plan will be, so the fastest is taken.")
    elif is_hedged_choice:
        found.append(_hedged_choice(chosen, in_time))
    elif best.index == chosen.index:
        found += _objective(chosen, plans, rules, paces_s)
    if best.index != chosen.index and not is_hedged_choice:
        limit = (
            "is in time"
            if rules.deadline_s is not None
            else f"takes at most {PREFERENCE_RATIO:g} times as long"
        )
        found.append(
            f"{rules.mode.replace('_', ' ')}: it {limit}, so it is taken before "
            f"{best.row.label} ({_ms(best.latency_s)})."
        )
    stage, seconds = max(chosen.stages_s.items(), key=lambda item: item[1])
    found.append(
        f"It takes {_ms(chosen.latency_s)}, most of it {stage.replace('_', ' ')} ({_ms(seconds)})."
    )
    return (*found, *_hedge(chosen, rules))


def _objective(
    chosen: Plan, plans: list[Plan], rules: Rules, paces_s: Mapping[int, float]
) -> list[str]:
    """Say what the chosen plan is the best in; it comes first of all."""
    which = "in time" if rules.deadline_s is not None else "allowed"
    second = next((plan for plan in plans[1:] if plan.slack_s >= 0), None)
    if rules.objective == "least_energy":
        beside = f", {second.row.label} {_mj(second.energy_j)}" if second else ""
        return [
            f"It takes the least of the device's energy {which}: {_mj(chosen.energy_j)}{beside} "
            f"(power: {rules.power.source})."
        ]
    if rules.objective == "greatest_throughput":
        beside = f", {second.row.label} {_pace(paces_s[second.index])}" if second else ""
        return [f"Of a stream it answers the most {which}: {_pace(paces_s[chosen.index])}{beside}."]
    found = []
    network = chosen.row.variant
    if len({plan.row.variant for plan in plans}) > 1 and chosen.accuracy > 0:
        found.append(f"{network} is the most accurate network {which} ({chosen.accuracy:.1%}).")
    equal = [
        p
        for p in plans
        if p.row.variant == network and p.accuracy == chosen.accuracy and p.slack_s >= 0
    ]
    if len(equal) > 1:
        found.append(f"It is the fastest of its {_count(len(equal), 'plan')} so accurate.")
    return found + _missed(chosen, plans)


def _hedged_choice(chosen: Plan, in_time: list[Plan]) -> str:
    """Say why a plan is chosen that is late too often alone."""
    hedge = chosen.hedge
    assert hedge is not None  # or it would be late
    mixed = (1 - chosen.late_ratio) * chosen.accuracy + chosen.late_ratio * hedge.accuracy
    said = (
        f"Alone it is late in {chosen.late_ratio:.1%} of cases; with its hedge beside it, answers "
        f"are expected to be right in {mixed:.1%}"
    )
    if not in_time:
        return f"{said}."
    best = max(in_time, key=lambda plan: plan.accuracy)
    return f"{said}, more than {best.row.label}'s {best.accuracy:.1%}."


def _hedge(chosen: Plan, rules: Rules) -> list[str]:
    """Say what is started beside a plan, or why nothing is."""
    if rules.hedge_above_ratio is None or rules.deadline_s is None or chosen.row.is_local:
        return []
    late = f"late in {chosen.late_ratio:.1%} of cases"
    if chosen.late_ratio < rules.hedge_above_ratio:
        return [f"It is {late}, so it needs no hedge (from {rules.hedge_above_ratio:.1%})."]
    if chosen.hedge is None:
        return [f"It is {late}, and no local plan would be done in time beside it."]
    hedge = chosen.hedge
    return [
        f"If there is no answer after {_ms(hedge.start_s)}, {hedge.row.label} starts on the device "
        f"({hedge.accuracy:.1%} accurate): then both are late in {hedge.late_ratio:.2%} of cases "
        f"instead of {chosen.late_ratio:.1%}."
    ]


def _missed(chosen: Plan, plans: list[Plan]) -> list[str]:
    """Say what the fastest plan of a more accurate network, which is late, needs."""
    better = [p for p in plans if p.accuracy > chosen.accuracy and p.slack_s < 0]
    if not better:
        return []
    top = max(plan.accuracy for plan in better)
    least = max((p for p in better if p.accuracy == top), key=lambda plan: plan.slack_s)
    return [
        f"{least.row.label} is more accurate ({top:.1%}), but needs {_ms(-least.slack_s)} more."
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _mj(joules: float) -> str:
    return f"{joules * 1e3:.1f} mJ"


def _pace(interval_s: float) -> str:
    return f"{1 / interval_s:.3g} a second" if interval_s > 0 else "without limit"

"""Explain: why one plan is chosen, what comes next, and what would have to change.

It predicts and decides by ``planning.decide`` alone, and prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.planning.decide import PREFERENCE_RATIO, SAFETY_SDS, decide, predict
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
        why: Sentences.
    """

    plan: Plan
    runners_up: tuple[RunnerUp, ...]
    alternative: RunnerUp | None
    excluded: Mapping[str, int]
    stretches: Mapping[Axis, tuple[Stretch, ...]]
    why: tuple[str, ...]


def explain(table: PlanTable, conditions: Conditions, rules: Rules) -> Explanation:
    """Return why ``decide`` chooses what it chooses.

    Runners-up come in the order of the objective: by latency; or those in time first, the more
    accurate before the faster, and then those that would be late, the faster first. Ties go to
    fewer bytes, then to the earlier row. A preference for a site does not change their order.

    Args:
        table: All plans.
        conditions: The instant.
        rules: What the user asks for.

    Raises:
        NoPlanError: If the rules, or the server's absence, leave no plan.
        ConditionsError: If the conditions cannot be computed with.
    """
    chosen = decide(table, conditions, rules)
    plans = sorted(predict(table, conditions, rules), key=lambda plan: _rank(plan, rules))
    others = [plan for plan in plans if plan.index != chosen.index]
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
        why=_why(chosen, plans, rules),
    )


def range_of(conditions: Conditions, axis: Axis) -> tuple[float, float]:
    """Return how far an axis is looked along; always beyond where it is now."""
    low, high = RANGES[axis]
    now = value_of(conditions, axis)
    return min(low, now / 10), max(high, now * 10)


def _rank(plan: Plan, rules: Rules) -> tuple[float, ...]:
    last = (plan.latency_s, plan.sent_bytes, plan.index)
    if rules.objective == "least_latency":
        return last
    is_late = plan.slack_s < 0
    return (is_late, 0.0 if is_late else -plan.accuracy, *last)


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


def _why(chosen: Plan, plans: list[Plan], rules: Rules) -> tuple[str, ...]:
    """Return the reasons in sentences; ``plans`` are all that are allowed, best first."""
    network = chosen.row.variant
    best = plans[0]
    same = [plan for plan in plans if plan.row.variant == network]
    networks = {plan.row.variant for plan in plans}
    found = []
    if rules.objective == "least_latency":
        found.append(f"Least latency is asked for, of {_count(len(plans), 'plan')}.")
        in_time = plans
    else:
        in_time = [plan for plan in plans if plan.slack_s >= 0]
        if rules.deadline_s is not None:
            found.append(
                f"{len(in_time)} of {_count(len(plans), 'plan')} will be done within "
                f"{_ms(rules.deadline_s)}, counting {SAFETY_SDS} standard deviations."
            )
    if rules.objective == "most_accurate" and in_time and best.index == chosen.index:
        which = "in time" if rules.deadline_s is not None else "allowed"
        if len(networks) > 1 and chosen.accuracy > 0:
            found.append(f"{network} is the most accurate network {which} ({best.accuracy:.1%}).")
        equal = [p for p in same if p.accuracy == chosen.accuracy and p.slack_s >= 0]
        if len(equal) > 1:
            found.append(f"It is the fastest of its {_count(len(equal), 'plan')} so accurate.")
        found += _missed(chosen, plans)
    elif rules.objective == "most_accurate" and not in_time:
        found.append("No plan will be, so the fastest is taken.")
    if best.index != chosen.index:
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
    return tuple(found)


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

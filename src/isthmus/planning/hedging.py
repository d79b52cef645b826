"""Hedging: a local plan beside a remote one that may be late. It starts nothing.

A hedge answers in the remote plan's place when that is not back by the deadline, so both have to
be late for the request to be late. Taken as independent of each other::

    P(late) = P(remote late) * P(local late | start)

with both latencies normally distributed, and spread so that ``Conditions.safety_sds`` standard
deviations cover 95 of 100.

The hedge is the most accurate local row that is still in time when it starts after the device's
own stages of the first plan, since a device does one thing at a time; it starts as late as it can.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from isthmus.planning.prediction import Prediction, first_least, spread_of
from isthmus.types.conditions import NORMAL_SDS
from isthmus.types.plan import Hedge

__all__ = [
    "SAFE_RATIO", "busy_s", "hedge_for", "hedged_choice", "in_time", "late_ratio",
]  # fmt: skip

SAFE_RATIO = 0.5 * math.erfc(NORMAL_SDS / math.sqrt(2))
"""How often a plan is late whose mean and safety margin just fit: 0.0505."""

_SCALE = NORMAL_SDS / math.sqrt(2)


def late_ratio(
    latency_s: float, latency_sd_s: float, deadline_s: float, *, safety_sds: float = NORMAL_SDS
) -> float:
    """Return the probability that a latency is beyond a deadline, 0 to 1.

    Args:
        latency_s: Mean, seconds.
        latency_sd_s: Predicted standard deviation, seconds.
        deadline_s: Seconds.
        safety_sds: How many of them cover 95 of 100.

    Examples:
        >>> round(late_ratio(0.1, 0.01, 0.1164), 4), late_ratio(0.1, 0.01, 0.1)
        (0.0505, 0.5)
        >>> round(late_ratio(0.1, 0.01, 0.132, safety_sds=3.2), 4)  # errors are twice as large
        0.0505
    """
    margin_s = latency_sd_s * safety_sds
    if margin_s > 0:
        return 0.5 * math.erfc((deadline_s - latency_s) / margin_s * _SCALE)
    return 0.0 if latency_s <= deadline_s else 1.0


def in_time(
    now: Prediction, deadline_s: float, *, is_local: bool = False
) -> tuple[list[int], list[tuple[int, float]]]:
    """Return the most accurate candidates in time, and more accurate ones that nearly are.

    In time are those whose mean plus the safety margin is within the deadline. Candidates come
    by falling accuracy, so few spreads are needed: only of those whose mean is within the
    deadline, none below the first accuracy that fits, none slower than what fits.

    Args:
        now: All candidates.
        deadline_s: Seconds.
        is_local: Whether to look at local ones alone.

    Returns:
        The positions of the fastest of the most accurate in time, perhaps slower ones before it;
        and position and spread of each that comes before them and has its mean within the
        deadline.
    """
    candidates, latencies_s = now.view.candidates, now.latencies_s
    safety_sds = now.conditions.safety_sds
    fitting: list[int] = []
    near: list[tuple[int, float]] = []
    limit_s, least_accuracy = deadline_s, -1.0
    mask = latencies_s <= deadline_s
    if is_local:
        mask &= now.view.is_local
    within = mask.tobytes()  # few of many, and looking for the next byte is quick
    position = -1
    while (position := within.find(1, position + 1)) >= 0:
        accuracy = candidates[position].accuracy
        if accuracy < least_accuracy:
            break
        latency_s = latencies_s.item(position)
        if latency_s > limit_s:
            continue
        sd_s = spread_of(now, position)
        if latency_s + safety_sds * sd_s <= deadline_s:
            fitting.append(position)
            limit_s, least_accuracy = latency_s, accuracy
        elif not fitting:
            near.append((position, sd_s))
    return fitting, near


def busy_s(now: Prediction, position: int) -> float:
    """Return how long the device is busy with a plan before its message leaves, seconds."""
    x, found_s = now.x, 0.0
    for column, seconds in now.view.candidates[position].busy:
        found_s += seconds * x[column]
    return found_s


def hedge_for(now: Prediction, position: int, late: float, *, deadline_s: float) -> Hedge | None:
    """Return the hedge of a remote plan; ``None`` if none helps.

    The most accurate local row that is in time when it starts once the device is free; ties go to
    the lower latency, then to the earlier row. It starts when its mean and safety margin just fit
    before the deadline. If none is in time: of those whose mean is, the one that is late least
    often, then the more accurate; it starts at once. The whole local plan counts, though parts of
    its work may have been done for the first one.

    Args:
        now: All candidates.
        position: The remote plan's.
        late: How often that is late, 0 to 1.
        deadline_s: Seconds from the request to the answer.
    """
    view, latencies_s, safety_sds = now.view, now.latencies_s, now.conditions.safety_sds
    if not view.candidates[position].can_be_hedged:
        return None
    free_at_s = busy_s(now, position)
    fitting, near = in_time(now, deadline_s - free_at_s, is_local=True)
    if fitting:
        chosen = first_least(now, fitting)
        sd_s = spread_of(now, chosen)
        start_s = deadline_s - now.latencies_s.item(chosen) - safety_sds * sd_s
        local_late = SAFE_RATIO if safety_sds * sd_s > 0 else 0.0
    elif near:
        ratios = [
            (
                late_ratio(
                    latencies_s.item(p), sd_s, deadline_s - free_at_s, safety_sds=safety_sds
                ),
                p,
            )
            for p, sd_s in near
        ]
        local_late, chosen = min(
            ratios,
            key=lambda r: (r[0], -view.candidates[r[1]].accuracy, latencies_s.item(r[1]), r[1]),
        )
        start_s = free_at_s
    else:
        return None
    candidate = view.candidates[chosen]
    return Hedge(candidate.row, candidate.row_index, start_s, candidate.accuracy, late * local_late)


def hedged_choice(
    now: Prediction,
    near: Iterable[tuple[int, float]],
    *,
    best_accuracy: float,
    deadline_s: float,
    above_ratio: float,
) -> int | None:
    """Return a remote candidate that is late too often alone, but the best with its hedge.

    Its mean is within the deadline, it is late as often as ``above_ratio`` or more, and a local row
    is in time beside it. Then the request is late less often than one whose plan just fits, and
    what is answered is expected to be right with::

        (1 - P(remote late)) * remote accuracy + P(remote late) * local accuracy

    The candidate with the greatest such accuracy is returned if it is greater than
    ``best_accuracy``; ties go to the lower latency, then to fewer bytes, then to the earlier row.

    Args:
        now: All candidates.
        near: Position and spread of those to look at, by falling accuracy.
        best_accuracy: Of the best plan that is in time by itself; below 0 if there is none.
        deadline_s: Seconds.
        above_ratio: ``Rules.hedge_above_ratio``.

    References:
        Ogden and Guo, "MDInference", IC2E 2020: aggregate accuracy within the deadline.
        *Departs*: a local run for late requests only, and a choice that knows of it.
    """
    candidates = now.view.candidates
    if not now.view.locals:
        return None
    best_local = candidates[now.view.locals[0]].accuracy
    found: list[int] = []
    for position, sd_s in near:
        candidate = candidates[position]
        if candidate.accuracy <= best_accuracy:
            break
        if not candidate.can_be_hedged:
            continue
        latency_s = now.latencies_s.item(position)
        late = late_ratio(latency_s, sd_s, deadline_s, safety_sds=now.conditions.safety_sds)
        if late < above_ratio or _mixed(candidate.accuracy, best_local, late) < best_accuracy:
            continue
        left_s = deadline_s - busy_s(now, position)
        fitting, _ = in_time(now, left_s, is_local=True)
        if not fitting:
            continue
        accuracy = _mixed(candidate.accuracy, candidates[fitting[0]].accuracy, late)
        if accuracy > best_accuracy:
            found, best_accuracy = [position], accuracy
        elif accuracy == best_accuracy and found:
            found.append(position)
    return first_least(now, found) if found else None


def _mixed(remote: float, local: float, late: float) -> float:
    return (1.0 - late) * remote + late * local

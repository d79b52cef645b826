"""Decide again in mid-request, when a message's true size is known. It sends nothing.

JPEG and zstd make sizes that depend on the photograph; a table knows their mean and deviation.
Where a message came out larger than the plan can bear, another one may now be the better; but not
one that the same photograph makes as much larger.
"""

from __future__ import annotations

import math
from dataclasses import replace

from isthmus.planning.decide import predict
from isthmus.types.conditions import Conditions
from isthmus.types.plan import Plan, PlanTable, Rules

__all__ = ["decide_midway", "with_size"]

_SHARED_STAGES = ("decode", "preprocess")
_PREPARED_STAGES = (*_SHARED_STAGES, "head", "encode")
_LEAST_SURPRISE_RATIO = 0.1


def decide_midway(
    table: PlanTable,
    conditions: Conditions,
    rules: Rules,
    plan: Plan,
    *,
    sent_bytes: float,
    spent_s: float,
) -> Plan:
    """Return the plan to go on with, now that the message of ``plan`` is known to be so large.

    Only an unpleasant surprise changes anything: if the true size adds less than a tenth of the
    plan's latency and less than its standard deviation, or if bytes do not matter to the
    objective, the plan stays, unless it is beyond ``rules.max_sent_bytes``. Otherwise what
    *remains* counts: nothing of ``plan``'s own work on the device, and no decoding or resizing for
    other plans of its network. Other images of the photograph, and other compressed tensors of the
    same cut, are expected to be larger than usual by the same factor. Without a deadline the least
    remaining latency wins; with one, the most accurate plan of those whose remaining mean plus the
    safety margin is within what is left, or else the least remaining latency. What is beyond
    ``rules.max_sent_bytes`` is chosen only if all is. Ties go to ``plan``.

    Args:
        table: All plans.
        conditions: As they were when ``plan`` was decided.
        rules: What the user asks for.
        plan: A remote plan, prepared up to the message that is ready to be sent.
        sent_bytes: True size of that message.
        spent_s: Seconds since the request.

    Returns:
        ``plan`` with what its true size makes of it, or another one, with ``latency_s`` and
        ``stages_s`` as if it were decided anew.
    """
    updated = with_size(plan, conditions, sent_bytes)
    surprise_s = updated.latency_s - plan.latency_s
    is_small = surprise_s <= max(_LEAST_SURPRISE_RATIO * plan.latency_s, plan.latency_sd_s)
    most_bytes = math.inf if rules.max_sent_bytes is None else rules.max_sent_bytes
    is_indifferent = is_small or rules.objective not in ("least_latency", "most_accurate")
    if is_indifferent and sent_bytes <= most_bytes:
        return updated
    larger = sent_bytes / max(plan.sent_bytes, 1.0)
    others = tuple(
        with_size(other, conditions, other.sent_bytes * larger) if _is_alike(other, plan) else other
        for other in predict(table, conditions, replace(rules, mode="auto"))
    )
    if rules.objective == "most_accurate" and rules.deadline_s is None:
        others = tuple(other for other in others if other.accuracy >= plan.accuracy)
    rest_s = {other.index: _remaining_s(other, plan) for other in others}
    rest_s[plan.index] = updated.latency_s - sum(plan.stages_s[s] for s in _PREPARED_STAGES)
    choices = [updated, *(other for other in others if other.index != plan.index)]
    choices = [p for p in choices if p.sent_bytes <= most_bytes] or choices
    if rules.deadline_s is not None and rules.objective == "most_accurate":
        left_s = rules.deadline_s - spent_s
        margin_s = {p.index: conditions.safety_sds * p.latency_sd_s for p in choices}
        in_time = [p for p in choices if rest_s[p.index] + margin_s[p.index] <= left_s]
        most = max((p.accuracy for p in in_time), default=-math.inf)
        choices = [p for p in in_time if p.accuracy == most] or choices
    return min(choices, key=lambda p: rest_s[p.index])


def with_size(plan: Plan, conditions: Conditions, sent_bytes: float) -> Plan:
    """Return a remote plan as it is predicted when it sends so many bytes."""
    link, window_bytes = conditions.link, conditions.window_bytes
    more_s = (sent_bytes - plan.sent_bytes) / link.uplink_bytes_per_s
    more_s += link.stall_s(sent_bytes, window_bytes)
    more_s -= link.stall_s(plan.sent_bytes, window_bytes)
    return replace(
        plan,
        sent_bytes=sent_bytes,
        latency_s=plan.latency_s + more_s,
        slack_s=plan.slack_s - more_s,
        stages_s={**plan.stages_s, "upload": plan.stages_s["upload"] + more_s},
    )


def _is_alike(other: Plan, plan: Plan) -> bool:
    """Return whether the photograph that makes one message large makes the other one so, too."""
    there, here = other.row, plan.row
    if here.family == "resized":
        return there.family == "resized"
    is_same_cut = there.family == "split" and there.cut_id == here.cut_id
    return is_same_cut and there.codec.endswith("zstd") and here.codec.endswith("zstd")


def _remaining_s(other: Plan, plan: Plan) -> float:
    if other.row.variant != plan.row.variant:
        return other.latency_s
    return other.latency_s - sum(other.stages_s[stage] for stage in _SHARED_STAGES)

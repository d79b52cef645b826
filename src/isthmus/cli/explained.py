"""How an explained decision is shown, to people and as JSON. It explains nothing itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from isthmus.cli.rows import print_rows
from isthmus.cli.units import megabits, milliseconds

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.planning.explain import Explanation, RunnerUp
    from isthmus.planning.sweep import Stretch
    from isthmus.types.conditions import Conditions
    from isthmus.types.plan import Plan, Rules

__all__ = ["conditions_line", "explained_record", "print_explained", "stretch_records"]

_SITES = dict.fromkeys(("decode", "preprocess", "head", "encode"), "device")
_SITES |= dict.fromkeys(("wait", "server_decode", "server"), "server")
_BAR = 24  # characters


def conditions_line(conditions: Conditions) -> str:
    """Return the conditions in one line."""
    link, image = conditions.link, conditions.image
    assert image is not None
    return (
        f"uplink {megabits(link.uplink_bytes_per_s)}, downlink "
        f"{megabits(link.downlink_bytes_per_s)}, round trip {milliseconds(link.rtt_s)}; "
        f"{image.format} {image.width} x {image.height}, {image.file_bytes / 1e3:.0f} KB; "
        f"device x{conditions.device_slowdown:g}, server x{conditions.server_slowdown:g} "
        "of the profiled time"
    )


def print_explained(
    out: Console, found: Explanation, rules: Rules, *, runners_up: int, status: str
) -> None:
    """Print the plan, its timeline, the reasons, and the runners-up.

    Args:
        out: Where to.
        found: What is explained.
        rules: What was asked for.
        runners_up: How many of them to print.
        status: Stands before times, such as ``predicted``; or empty.
    """
    from rich.table import Table

    plan = found.plan
    out.print(f"\n[bold]{escape(plan.row.label)}[/bold]  {status}{_figures(plan)}", soft_wrap=True)
    is_piped = not out.is_terminal  # then no line is broken
    out.print(escape(_costs(plan, found.intervals_s[plan.index], rules)), soft_wrap=is_piped)
    stages = Table.grid(padding=(0, 2))
    longest_s = max(plan.stages_s.values())
    for stage, seconds in plan.stages_s.items():
        if seconds > 0:
            bar = "█" * max(1, round(_BAR * seconds / longest_s))
            site = _SITES.get(stage, "link")
            stages.add_row("", site, stage.replace("_", " "), milliseconds(seconds), bar)
    out.print(stages)
    out.print("\n" + escape(" ".join(found.why)), soft_wrap=is_piped)
    for axis, parts in found.stretches.items():
        out.print(f"[dim]{_stays(axis, parts, plan)}[/dim]", soft_wrap=is_piped)
    if found.excluded:
        reasons = "; ".join(f"{why}: {n}" for why, n in found.excluded.items())
        out.print(f"Plans excluded by {escape(reasons)}", soft_wrap=is_piped)
    shown = list(found.runners_up[:runners_up])
    if found.alternative is not None and shown and found.alternative not in shown:
        shown.append(found.alternative)
    if not shown:
        return
    headings = ("runner-up", f"{status}time", "against", "accuracy", "KB sent")
    print_rows(out, (*headings, "wins at uplink", "at server"), [_cells(one) for one in shown])


def _cells(other: RunnerUp) -> tuple[str, ...]:
    plan = other.plan
    rate, slowdown = other.wins_at["uplink_bytes_per_s"], other.wins_at["server_slowdown"]
    return (
        plan.row.label + (" (late)" if plan.slack_s < 0 else ""),
        milliseconds(plan.latency_s),
        f"{other.later_s * 1e3:+.1f} ms",
        f"{plan.accuracy:.1%}",
        f"{plan.sent_bytes / 1e3:.1f}",
        "never" if rate is None else megabits(rate),
        "never" if slowdown is None else f"x{slowdown:.3g}",
    )


def _figures(plan: Plan) -> str:
    spread = f" ± {milliseconds(plan.latency_sd_s)}" if plan.latency_sd_s else ""
    from isthmus.planning.decide import will_be_late

    late = " [red]probably late[/red]" if will_be_late(plan) else ""
    return (
        f"{milliseconds(plan.latency_s)}{spread}{late}, accuracy {plan.accuracy:.1%}, "
        f"{plan.sent_bytes / 1e3:.1f} KB sent"
    )


def _costs(plan: Plan, interval_s: float, rules: Rules) -> str:
    """Say what a plan takes of the device and of a stream, and how often it is late."""
    source = rules.power.source
    parts = [f"{plan.energy_j * 1e3:.1f} mJ of the device ({source} power)"]
    if interval_s > 0:
        parts.append(f"at most {1 / interval_s:.3g} a second")
    if rules.deadline_s is not None:
        parts.append(f"late in {plan.late_ratio:.1%}")
    if plan.hedge is not None:
        hedge = plan.hedge
        parts.append(
            f"hedge after {milliseconds(hedge.start_s)}: {hedge.row.label}, then late in "
            f"{hedge.late_ratio:.2%}"
        )
    return "; ".join(parts)


def _stays(axis: str, parts: Sequence[Stretch], plan: Plan) -> str:
    """Say between which values a plan stays the chosen one, and what is chosen beyond."""
    is_uplink = axis == "uplink_bytes_per_s"
    place = next(i for i, part in enumerate(parts) if part.plan.index == plan.index)
    last = max(i for i, part in enumerate(parts) if part.plan.index == plan.index)

    def said(value: float) -> str:
        return megabits(value) if is_uplink else f"x{value:.3g} of its profiled time"

    beyond = []
    if place > 0:
        beyond.append(f"below {said(parts[place].low)} {parts[place - 1].plan.row.label}")
    if last + 1 < len(parts):
        beyond.append(f"above {said(parts[last].high)} {parts[last + 1].plan.row.label}")
    name = "Uplink" if is_uplink else "Server"
    return escape(f"{name}: {'; '.join(beyond)}." if beyond else f"{name}: changes nothing.")


def explained_record(found: Explanation, conditions: Conditions, rules: Rules) -> dict[str, Any]:
    """Return all of it as JSON values."""
    link, image = conditions.link, conditions.image
    assert image is not None
    window_bytes, power = conditions.window_bytes, rules.power
    return {
        "conditions": {
            "uplink_bytes_per_s": link.uplink_bytes_per_s,
            "downlink_bytes_per_s": link.downlink_bytes_per_s,
            "rtt_s": link.rtt_s,
            "device_slowdown": conditions.device_slowdown,
            "server_slowdown": conditions.server_slowdown,
            "is_connected": conditions.is_connected,
            "window_bytes": window_bytes if window_bytes < math.inf else None,
            "image": {
                "format": image.format,
                "width": image.width,
                "height": image.height,
                "file_bytes": image.file_bytes,
            },
        },
        "power": asdict(power),
        "plan": {
            **_plan_record(found.plan, found),
            "hedge": _hedge_record(found.plan),
            "stages_s": dict(found.plan.stages_s),
        },
        "why": list(found.why),
        "excluded": dict(found.excluded),
        "runners_up": [
            {**_plan_record(r.plan, found), "later_s": r.later_s, "wins_at": dict(r.wins_at)}
            for r in found.runners_up
        ],
        "along": {axis: stretch_records(parts) for axis, parts in found.stretches.items()},
    }


def _plan_record(plan: Plan, found: Explanation) -> dict[str, Any]:
    return {
        "label": plan.row.label,
        "variant": plan.row.variant,
        "family": plan.row.family,
        "cut_id": plan.row.cut_id,
        "latency_s": plan.latency_s,
        "latency_sd_s": plan.latency_sd_s,
        "accuracy": plan.accuracy,
        "sent_bytes": plan.sent_bytes,
        "slack_s": plan.slack_s,
        "late_ratio": plan.late_ratio,
        "energy_j": plan.energy_j,
        "interval_s": found.intervals_s[plan.index],
    }


def _hedge_record(plan: Plan) -> dict[str, Any] | None:
    if plan.hedge is None:
        return None
    return {
        "label": plan.hedge.row.label,
        "start_s": plan.hedge.start_s,
        "accuracy": plan.hedge.accuracy,
        "late_ratio": plan.hedge.late_ratio,
    }


def stretch_records(parts: Sequence[Stretch]) -> list[dict[str, Any]]:
    """Return between which values each plan is chosen, as JSON values."""
    return [
        {"low": p.low, "high": p.high, "plan": p.plan.row.label, "late": p.is_late} for p in parts
    ]

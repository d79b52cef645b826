"""``isthmus plan --map``: what is best over link and deadline. It calls, and says what holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.cli.explained import stretch_records
from isthmus.cli.units import megabits, milliseconds

if TYPE_CHECKING:
    from isthmus.types.conditions import Conditions
    from isthmus.types.plan import PlanTable, Rules

__all__ = ["draw_plan_map"]


def draw_plan_map(
    table: PlanTable, conditions: Conditions, rules: Rules, target: Path
) -> dict[str, Any]:
    """Draw the map into an .svg or a .png file; return it as JSON values."""
    from isthmus.lab.plan_map import draw_map, map_plans

    made = map_plans(table, conditions, rules)
    by_slowdown = made.vertical == "device_slowdown"
    height = conditions.device_slowdown if by_slowdown else rules.deadline_s
    rate = conditions.link.uplink_bytes_per_s
    draw_map(
        made,
        target,
        title=_fixed(conditions, rules, has_slowdown=not by_slowdown),
        now=None if height is None else (rate, height),
    )
    return {
        "vertical": made.vertical,
        "rows": [
            {made.vertical: row.value, "uplink_bytes_per_s": stretch_records(row.stretches)}
            for row in made.rows
        ],
    }


def _fixed(conditions: Conditions, rules: Rules, *, has_slowdown: bool) -> str:
    """Say the conditions and rules that hold all over a map."""
    link, image = conditions.link, conditions.image
    assert image is not None
    parts = [
        f"round trip {milliseconds(link.rtt_s)}",
        f"downlink {megabits(link.downlink_bytes_per_s)}",
        f"{image.format} {image.width} x {image.height}, {image.file_bytes / 1e3:.0f} KB",
        f"server {_pace(conditions.server_slowdown)}",
    ]
    if has_slowdown:
        parts.append(f"device {_pace(conditions.device_slowdown)}")
    if rules.variants is not None:
        parts.append("only " + ", ".join(sorted(rules.variants)))
    if rules.no_pixels_leave:
        parts.append("no pixels leave")
    if rules.objective in ("least_energy", "greatest_throughput"):
        parts.append(rules.objective.replace("_", " "))
    if rules.hedge_above_ratio is not None:
        parts.append(f"hedged from {rules.hedge_above_ratio:.1%} late")
    if conditions.window_bytes < math.inf:
        parts.append(f"TCP starts with {conditions.window_bytes / 1e3:.1f} KB")
    if rules.mode != "auto":
        parts.append(rules.mode.replace("_", " "))
    if rules.max_sent_bytes is not None:
        parts.append(f"at most {rules.max_sent_bytes:g} bytes sent")
    return "; ".join(parts)


def _pace(slowdown: float) -> str:
    return "as profiled" if slowdown == 1 else f"at {slowdown:g} times its profiled time"

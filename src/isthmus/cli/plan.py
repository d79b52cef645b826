"""``isthmus plan``: which plan suits given conditions, and why. It parses, calls and prints."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.markup import escape

from isthmus.cli.output import console, write_json
from isthmus.cli.predicted import predicted_record, predicted_table, print_predicted
from isthmus.cli.rules import (
    Deadline,
    Fastest,
    HedgeAbove,
    MaxSentBytes,
    Mode,
    NoPixelsLeave,
    Objective,
    PowerDrawn,
    Variants,
    check_variants,
    rules_from_options,
)
from isthmus.cli.units import (
    bytes_per_s_from_text,
    megabits,
    milliseconds,
    pixels_from_text,
    seconds_from_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from isthmus.loading.bundle import Bundle
    from isthmus.planning.explain import Explanation, RunnerUp
    from isthmus.planning.sweep import Stretch
    from isthmus.types.conditions import Conditions, ImageFacts
    from isthmus.types.plan import Plan, PlanTable, Rules

__all__ = ["command"]

_SITES = dict.fromkeys(("decode", "preprocess", "head", "encode"), "device")
_SITES |= dict.fromkeys(("wait", "server_decode", "server"), "server")
_BAR = 30  # characters
_T = TypeVar("_T")


def command(
    bundle: Annotated[Path, typer.Argument(help="A profiled bundle.")],
    uplink: Annotated[
        str | None, typer.Option(help="Rate to the server, e.g. 10mbit; else as profiled.")
    ] = None,
    downlink: Annotated[
        str | None, typer.Option(help="Rate from the server; else the uplink's.")
    ] = None,
    rtt: Annotated[
        str | None, typer.Option(help="Round trip, e.g. 20ms; else as profiled.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The photograph.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Instead of a photograph: a JPEG of so many pixels, WxH.")
    ] = None,
    file_bytes: Annotated[
        int | None, typer.Option(min=1, help="With --size: the file's bytes.")
    ] = None,
    deadline: Deadline = None,
    variant: Variants = None,
    no_pixels_leave: NoPixelsLeave = False,
    objective: Objective = None,
    fastest: Fastest = False,
    mode: Mode = "auto",
    max_sent_bytes: MaxSentBytes = None,
    power: PowerDrawn = None,
    hedge: HedgeAbove = None,
    connection: Annotated[
        str,
        typer.Option(
            help="warm: sends as fast as the link; idle: TCP starts slowly again; new: it has to "
            "be made first, too."
        ),
    ] = "warm",
    server_slowdown: Annotated[
        float, typer.Option(help="How much slower the server is than when profiled.")
    ] = 1.0,
    device_slowdown: Annotated[
        float, typer.Option(help="How much slower the device is than when profiled.")
    ] = 1.0,
    device_model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="Plan for an absent device: a site model from `isthmus profile --layers`, or "
            "raspberry-pi-3b or desktop-2018 (Edgent's published figures). Every figure is then "
            "predicted.",
        ),
    ] = None,
    server_model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|PRESET",
            help="With --device-model: predict the server, too; needed if the bundle was not "
            "profiled.",
        ),
    ] = None,
    with_loading: Annotated[
        bool,
        typer.Option(
            "--with-loading",
            help="With --device-model: each inference loads its part first, as in Edgent's table.",
        ),
    ] = False,
    runners_up: Annotated[int, typer.Option(min=0, help="How many runners-up to print.")] = 5,
    map_target: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Draw what is best over uplink and deadline (with --fastest: over uplink and "
            "device slowdown); .svg or .png.",
        ),
    ] = None,
    json_target: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write all of it as JSON; - prints."),
    ] = None,
) -> None:
    """Say which plan suits a link and a photograph, what it would cost, and why.

    Needs no server and no device: the profiled bundle knows it all. Prints the
    chosen plan's timeline, the reasons, the runners-up, and at which uplink rate
    and server load each of them would win.

    Example: isthmus plan app.isthmus --uplink 10mbit --rtt 20ms --deadline 80ms

    Example: isthmus plan app.isthmus --device-model kiosk.json
    """
    from isthmus.loading.bundle import open_bundle
    from isthmus.planning.explain import explain

    rules = rules_from_options(
        deadline=deadline,
        variant=variant,
        no_pixels_leave=no_pixels_leave,
        fastest=fastest,
        mode=mode,
        max_sent_bytes=max_sent_bytes,
        objective=objective,
        power=power,
        hedge=hedge,
    )
    opened = open_bundle(bundle)
    check_variants(rules, opened.variants, bundle)
    conditions = replace(
        _conditions(opened, uplink, downlink, rtt, _facts(opened, image, size, file_bytes)),
        server_slowdown=server_slowdown,
        device_slowdown=device_slowdown,
        **_connection(connection),
    )
    if map_target is not None and map_target.suffix not in (".svg", ".png"):
        raise typer.BadParameter("a map is an .svg or a .png file", param_hint="--map")
    predicted = predicted_table(opened, device_model, server_model, is_loaded=not with_loading)
    table = predicted.table if predicted is not None else opened.profiled_table()
    found = explain(table, conditions, rules)
    record = _record(found, conditions, rules)
    if predicted is not None:
        record = predicted_record(record, predicted)
    if map_target is not None:
        record["map"] = _draw_map(table, conditions, rules, map_target)
    write_json(record, json_target)
    if json_target != "-":
        out = console()
        out.print(_conditions_line(conditions), soft_wrap=True)
        if predicted is not None:
            print_predicted(out, predicted)
        _print(out, found, rules, runners_up, "predicted " if predicted is not None else "")
        if map_target is not None:
            out.print(f"map: {escape(str(map_target))}", soft_wrap=True)


def _draw_map(
    table: PlanTable, conditions: Conditions, rules: Rules, target: Path
) -> dict[str, Any]:
    """Draw the map; return it as JSON values."""
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
            {made.vertical: row.value, "uplink_bytes_per_s": _stretch_records(row.stretches)}
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
        f"server x{conditions.server_slowdown:g}",
    ]
    if has_slowdown:
        parts.append(f"device x{conditions.device_slowdown:g}")
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


def _stretch_records(parts: Sequence[Stretch]) -> list[dict[str, Any]]:
    return [
        {"low": p.low, "high": p.high, "plan": p.plan.row.label, "late": p.is_late} for p in parts
    ]


def _connection(state: str) -> dict[str, Any]:
    """Return what a connection's state is as fields of the conditions.

    Raises:
        typer.BadParameter: If it is none of the three.
    """
    from isthmus.types.link import INITIAL_WINDOW_BYTES

    slow = {"window_bytes": float(INITIAL_WINDOW_BYTES)}
    states: dict[str, dict[str, Any]] = {
        "warm": {},
        "idle": slow,
        "new": slow | {"is_connected": False},
    }
    if state not in states:
        raise typer.BadParameter(
            f"{state!r} is none of {', '.join(states)}", param_hint="--connection"
        )
    return states[state]


def _parsed(text: str, parse: Callable[[str], _T], option: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _conditions(
    opened: Bundle, uplink: str | None, downlink: str | None, rtt: str | None, facts: ImageFacts
) -> Conditions:
    """Return the conditions; what is given is taken as certain, the rest is as profiled."""
    from isthmus.types.conditions import Conditions
    from isthmus.types.link import Link

    if opened.table is None and uplink is not None and rtt is not None:
        rate = _parsed(uplink, bytes_per_s_from_text, "--uplink")
        link = Link(rate, rate, _parsed(rtt, seconds_from_text, "--rtt"))
    else:
        link = opened.profiled_link()
    if uplink is not None:
        rate = _parsed(uplink, bytes_per_s_from_text, "--uplink")
        link = replace(
            link, uplink_bytes_per_s=rate, uplink_sd_ratio=0.0,
            downlink_bytes_per_s=rate, downlink_sd_ratio=0.0,
        )  # fmt: skip
    if downlink is not None:
        rate = _parsed(downlink, bytes_per_s_from_text, "--downlink")
        link = replace(link, downlink_bytes_per_s=rate, downlink_sd_ratio=0.0)
    if rtt is not None:
        link = replace(link, rtt_s=_parsed(rtt, seconds_from_text, "--rtt"), rtt_sd_s=0.0)
    return Conditions(link, facts)


def _facts(
    opened: Bundle, image: Path | None, size: str | None, file_bytes: int | None
) -> ImageFacts:
    """Return the facts of the photograph, or of the bundle's photograph of median size."""
    from isthmus.errors import BundleError, ImageError
    from isthmus.runtime.image import read_facts
    from isthmus.types.conditions import ImageFacts

    if (size is None) != (file_bytes is None):
        raise typer.BadParameter("--size and --file-bytes go together", param_hint="--size")
    if size is not None and file_bytes is not None:
        if image is not None:
            raise typer.BadParameter("a photograph has its own size", param_hint="--size")
        return ImageFacts("jpeg", *_parsed(size, pixels_from_text, "--size"), file_bytes)
    if image is not None:
        try:
            return read_facts(image.read_bytes())
        except ImageError as error:
            raise ImageError(f"{image}: {error}") from error
    photographs = sorted(opened.photographs(), key=len)
    if not photographs:
        raise BundleError(f"{opened.path} has no photograph: say --image, or --size")
    return read_facts(photographs[len(photographs) // 2])


def _conditions_line(conditions: Conditions) -> str:
    link, image = conditions.link, conditions.image
    assert image is not None
    return (
        f"uplink {megabits(link.uplink_bytes_per_s)}, downlink "
        f"{megabits(link.downlink_bytes_per_s)}, round trip {milliseconds(link.rtt_s)}; "
        f"{image.format} {image.width} x {image.height}, {image.file_bytes / 1e3:.0f} KB; "
        f"device x{conditions.device_slowdown:g}, server x{conditions.server_slowdown:g} "
        "of the profiled time"
    )


def _print(out: Console, found: Explanation, rules: Rules, count: int, status: str) -> None:
    from rich import box
    from rich.table import Table

    plan = found.plan
    out.print(f"\n[bold]{escape(plan.row.label)}[/bold]  {status}{_figures(plan)}", soft_wrap=True)
    out.print(escape(_costs(plan, found.intervals_s[plan.index], rules)), soft_wrap=True)
    stages = Table.grid(padding=(0, 2))
    longest_s = max(plan.stages_s.values())
    for stage, seconds in plan.stages_s.items():
        if seconds > 0:
            bar = "█" * max(1, round(_BAR * seconds / longest_s))
            site = _SITES.get(stage, "link")
            stages.add_row("", site, stage.replace("_", " "), milliseconds(seconds), bar)
    out.print(stages)
    out.print("\n" + escape(" ".join(found.why)), soft_wrap=True)
    for axis, parts in found.stretches.items():
        out.print(f"[dim]{_stays(axis, parts, plan)}[/dim]", soft_wrap=True)
    if found.excluded:
        reasons = "; ".join(f"{why}: {n}" for why, n in found.excluded.items())
        out.print(f"Plans excluded by {escape(reasons)}", soft_wrap=True)
    shown = list(found.runners_up[:count])
    if found.alternative is not None and shown and found.alternative not in shown:
        shown.append(found.alternative)
    if not shown:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("runner-up", overflow="fold")
    for title in (f"{status}time", "against", "accuracy", "KB sent", "wins at uplink", "at server"):
        table.add_column(title, justify="right")
    for other in shown:
        table.add_row(*_runner_up_cells(other))
    out.print(table)


def _runner_up_cells(other: RunnerUp) -> tuple[str, ...]:
    plan = other.plan
    rate, slowdown = other.wins_at["uplink_bytes_per_s"], other.wins_at["server_slowdown"]
    return (
        escape(plan.row.label) + (" (late)" if plan.slack_s < 0 else ""),
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


def _record(found: Explanation, conditions: Conditions, rules: Rules) -> dict[str, Any]:
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
        "along": {axis: _stretch_records(parts) for axis, parts in found.stretches.items()},
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

"""``isthmus plan``: which plan suits given conditions, and why. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from isthmus.cli.conditions import (
    connection_from_option,
    facts_from_options,
    link_from_options,
)
from isthmus.cli.explained import conditions_line, explained_record, print_explained
from isthmus.cli.output import JsonTarget, checked_picture, console, write_json
from isthmus.cli.plan_map import draw_plan_map
from isthmus.cli.predicted import predicted_record, predicted_table, print_predicted
from isthmus.cli.rules import bundle_for, takes_rules
from isthmus.types.plan import Rules

__all__ = ["command"]


@takes_rules
def command(
    *,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A profiled bundle.")],
    uplink: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="To the server, e.g. 10mbit; else as profiled."),
    ] = None,
    downlink: Annotated[
        str | None, typer.Option(metavar="RATE", help="From the server; else the uplink's.")
    ] = None,
    rtt: Annotated[
        str | None, typer.Option(metavar="TIME", help="Round trip, e.g. 20ms; else as profiled.")
    ] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="The photograph.")] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Instead of a photograph: a JPEG of so many pixels."),
    ] = None,
    file_bytes: Annotated[
        int | None, typer.Option(min=1, metavar="BYTES", help="With --size: the file's bytes.")
    ] = None,
    rules: Rules,
    connection: Annotated[
        str,
        typer.Option(
            metavar="STATE",
            help="warm: sends as fast as the link; idle: TCP starts slowly again; new: it has to "
            "be made first, too.",
        ),
    ] = "warm",
    server_slowdown: Annotated[
        float,
        typer.Option(metavar="TIMES", help="How much slower the server is than when profiled."),
    ] = 1.0,
    device_slowdown: Annotated[
        float,
        typer.Option(metavar="TIMES", help="How much slower the device is than when profiled."),
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
    runners_up: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many of them to print.")
    ] = 5,
    map_target: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="Draw what is best over uplink and deadline (with --fastest: over uplink and "
            "device slowdown); .svg or .png.",
            callback=checked_picture,
        ),
    ] = None,
    json_target: JsonTarget = None,
) -> None:
    """Say which plan suits a link and a photograph, what it would cost, and why.

    Needs no server and no device: the profiled bundle knows it all. Prints the
    chosen plan's timeline, the reasons, the runners-up, and at which uplink rate
    and server load each of them would win.

    Example: isthmus plan app.isthmus --uplink 10mbit --rtt 20ms --deadline 80ms

    Example: isthmus plan app.isthmus --device-model kiosk.json
    """
    from isthmus.planning.explain import explain
    from isthmus.types.conditions import Conditions

    opened = bundle_for(rules, bundle)
    conditions = Conditions(
        link_from_options(opened, uplink=uplink, downlink=downlink, rtt=rtt),
        facts_from_options(opened, image=image, size=size, file_bytes=file_bytes),
        server_slowdown=server_slowdown,
        device_slowdown=device_slowdown,
        decodes_alike=opened.profile.get("decodes_alike", True) is True,
        **connection_from_option(connection),
    )
    predicted = predicted_table(opened, device_model, server_model, is_loaded=not with_loading)
    table = predicted.table if predicted is not None else opened.profiled_table()
    found = explain(table, conditions, rules)
    record = explained_record(found, conditions, rules)
    if predicted is not None:
        record = predicted_record(record, predicted)
    if map_target is not None:
        record["map"] = draw_plan_map(table, conditions, rules, map_target)
    write_json(record, json_target)
    if json_target == "-":
        return
    out = console()
    out.print(conditions_line(conditions), soft_wrap=True)
    if predicted is not None:
        print_predicted(out, predicted)
    status = "predicted " if predicted is not None else ""
    print_explained(out, found, rules, runners_up=runners_up, status=status)
    if map_target is not None:
        out.print(f"map: {escape(str(map_target))}", soft_wrap=True)

"""``isthmus study qdmp``: ways to find the best cut, side by side. It parses, calls and prints."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from isthmus.lab.studies.qdmp import GraphFigures, QdmpStudy

__all__ = ["command"]


def command(
    graphs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only networks of this name, e.g. 'light_*'; may be repeated."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="About how long it may take.")
    ] = 120.0,
    json_target: JsonTarget = None,
) -> None:
    """Compare ways to find a network's best cut: their time, and what they miss.

    Layer times are estimated, so this tells about the methods and not about a
    device. All ways are timed in turn in the same run; compare their ratios, and
    not the figures of two runs.

    Example: isthmus study qdmp --graphs 'light_*' --seconds 30
    """
    from isthmus.lab.studies.qdmp import available_graphs, study_qdmp

    found, left_out = available_graphs()
    if graphs:
        patterns = list(graphs)
        found = {n: g for n, g in found.items() if any(fnmatchcase(n, p) for p in patterns)}
        left_out = {n: w for n, w in left_out.items() if any(fnmatchcase(n, p) for p in patterns)}
        if not found:
            raise typer.BadParameter(f"no network is named {patterns[0]}", param_hint="--graphs")
    with progress_bars() as bars:
        study = study_qdmp(found, seconds=seconds, left_out=left_out, progress=bars)
    write_json(study.record(), json_target)
    if json_target != "-":
        _print(console(), study)


def _print(out: Console, study: QdmpStudy) -> None:
    from isthmus.lab.studies.qdmp import SERVER_SPEEDUP

    out.print(
        f"Estimated layer costs (no device was measured), server {SERVER_SPEEDUP:g} times as fast "
        "as the device.",
        soft_wrap=True,
    )
    graphs = study.graphs
    facts: Mapping[str, Callable[[GraphFigures], str]] = {
        "layers": lambda one: str(one.layers),
        "cut vertices": lambda one: str(one.cut_vertices),
        "frontier": lambda one: str(one.frontier),
        "candidates": lambda one: str(one.candidates),
        "build ms": lambda one: f"{one.frontier_build_ms:.1f}",
        "pays after": lambda one: f"{one.break_even_decisions:.0f}",
        "conditions": lambda one: str(one.conditions),
    }
    _table(out, "Networks", graphs, facts)
    ways = dict.fromkeys(way for one in graphs.values() for way in one.solve_ms)
    _table(
        out,
        "Milliseconds to find the plan for one condition (prepared: the graph was built before)",
        graphs,
        {way.replace("_", " "): _time_of(way) for way in ways},
    )
    methods = dict.fromkeys(name for one in graphs.values() for name in one.max_gap_ratio)
    _table(
        out,
        "Plan's excess over the best at worst (50 kbit/s to 10 Gbit/s, server slowed x0.1 to x10)",
        graphs,
        {name.replace("_", " "): _gap_of(name) for name in methods},
    )
    table = study.table
    out.print(
        f"Decision by a table of {table.rows} rows and {table.columns} columns, header included: "
        f"{table.p50:.1f} µs (p99 {table.p99:.1f} µs), {table.batched_per_decision:.1f} µs each "
        "of many.",
        soft_wrap=True,
    )
    out.print(
        f"The frontier has paid for itself after {study.break_even_decisions:.0f} decisions at "
        "most, against the fastest exact way.",
        soft_wrap=True,
    )
    for name, why in study.left_out.items():
        out.print(f"[yellow]left out:[/yellow] {escape(name)}: {escape(why)}", soft_wrap=True)


def _time_of(way: str) -> Callable[[GraphFigures], str]:
    return lambda one: _three_digits(one.solve_ms[way]) if way in one.solve_ms else "-"


def _gap_of(name: str) -> Callable[[GraphFigures], str]:
    def text(one: GraphFigures) -> str:
        gap = one.max_gap_ratio[name]
        return "0" if gap == 0 else f"{gap:.2%}" if gap < 1 else f"x{_three_digits(1 + gap)}"

    return text


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _table(
    out: Console,
    title: str,
    graphs: Mapping[str, GraphFigures],
    columns: Mapping[str, Callable[[GraphFigures], str]],
) -> None:
    rows = [(name, *(cell(one) for cell in columns.values())) for name, one in graphs.items()]
    print_rows(out, ("network", *columns), rows, title=title)

"""``isthmus study pieslicer``: resize on the device or in the cloud. It parses and prints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.progress import progress_bars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["command"]

_QUICK = 30


def command(
    images: Annotated[
        int, typer.Option(min=6, help="Photographs, spread evenly to 10 MB; made once and kept.")
    ] = 200,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"{_QUICK} photographs, nothing checked for real.")
    ] = False,
    photographs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="JPEG photographs to make the set from, instead of those in Debian's packages.",
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw time against size (.svg, .png).")
    ] = None,
    json_target: JsonTarget = None,
) -> None:
    """Resize photographs on the device or in the cloud: PieSlicer's choice and ours.

    Compute is measured here, the devices' slowness and the networks are emulated:
    as PieSlicer published them, on virtual time, a few requests made for real. All
    methods are judged on the same recorded times, and learn from other photographs.
    The set takes about a minute the first time, the rest about six.

    Example: isthmus study pieslicer --figure pieslicer.svg --json pieslicer.json
    """
    from isthmus.lab.studies.pieslicer import study_pieslicer

    with progress_bars() as bars:
        study = study_pieslicer(
            _QUICK if quick else images,
            sources=photographs,
            is_checked=not quick,
            progress=bars,
        )
    record = study.record()
    write_json(record, json_target)
    if figure is not None:
        from isthmus.lab.studies.pieslicer_figure import draw

        draw(study, figure)
    if json_target != "-":
        _print(console(), record)


def _print(out: Console, record: Mapping[str, Any]) -> None:
    settings = record["settings"]
    out.print(
        f"{settings['photographs']} photographs of {settings['file_mb'][0]:.2f} to "
        f"{settings['file_mb'][1]:.1f} MB; on the device: {settings['shorter_side_px']} px, "
        f"{settings['on_device']}. Devices and networks are emulated, and so is every time below.",
        soft_wrap=True,
    )
    for device, fit in record["devices"].items():
        out.print(
            f"{device}: {fit['slowdown']:.1f} times slower, and {fit['overhead_ms']:.0f} ms; so "
            f"its line is {fit['slope_ms_per_mb']:.1f} ms/MB + {fit['intercept_ms']:.1f} ms as "
            f"published, {fit['median_error']:.0%} off (median).",
            soft_wrap=True,
        )
    latency = _table(
        "Time before the network runs, of the best of two (in brackets: published)",
        ("p50", "p95", "p99"),
        "cell",
        "method",
    )
    decisions = _table(
        "Decisions",
        (
            "right", "F1 device", "F1 cloud", "regret ms", "p99", "of best", "skill",
            "right near break-even", "sent",
        ),
        "cell",
        "method",
    )  # fmt: skip
    for cell, methods in record["cells"].items():
        published = record["published"].get(cell, {})
        for name, found in methods.items():
            theirs = published.get(name, {})
            best = methods["optimal"]
            shown = [
                _latency(found[key], best[key], theirs.get(key[:3]), name == "optimal")
                for key in ("p50_ms", "p95_ms", "p99_ms")
            ]
            latency.add_row(cell, name, *shown)
            decisions.add_row(
                cell,
                name,
                f"{found['accuracy']:.3f}",
                _number(found["f1_device"], "{:.3f}")
                + (f" [{theirs['f1']:.3f}]".replace("[", r"\[") if "f1" in theirs else ""),
                _number(found["f1_cloud"], "{:.3f}"),
                f"{found['mean_regret_ms']:.1f}",
                f"{found['p99_regret_ms']:.0f}",
                f"{found['regret_ratio']:.1%}",
                _number(found["skill"], "{:.2f}"),
                f"{found['near_break_even_accuracy']:.3f}",
                f"{found['sent_ratio']:.1%}",
            )
        latency.add_section()
        decisions.add_section()
    out.print(latency)
    out.print(decisions)
    out.print(_residuals(record))
    for cell, factor in record["factors"].items():
        out.print(
            f"{cell}: all placements are {factor['p50']:.2f} times as fast as the best of two at "
            f"p50, {factor['p99']:.2f} at p99; break-even "
            f"{record['break_even_mb'][cell]['observed']:.2f} MB.",
            soft_wrap=True,
        )
    regressors = _table("Regressors", ("error", "training ms", "one prediction us"), "name")
    for name, found in record["regressors"].items():
        row = f"{found['mape']:.1%}", f"{found['train_ms']:.2f}", f"{found['use_us']:.0f}"
        regressors.add_row(name, *row)
    out.print(regressors)
    checked = record["checked_for_real"]
    if checked["cells"]:
        out.print(
            f"Made for real: {checked['cells']} of the recorded times, "
            f"{checked['median_error']:.1%} off (median)."
        )


def _residuals(record: Mapping[str, Any]) -> Table:
    """Return how well the link's own residuals let anybody decide, where there is much to lose."""
    methods = ("informed", "pieslicer", "isthmus_two", "isthmus")
    table = _table(
        "With residuals that nobody can foresee: right, mean regret of best, skill",
        methods,
        "cell",
        "residual",
    )
    for cell, published in record["cells"].items():
        if math.isnan(published["on_device"]["skill"]):
            continue
        for residual_sd, found in {"0": record["cells"], **record["residuals"]}.items():
            shown = [
                f"{one['accuracy']:.3f} {one['regret_ratio']:6.2%} "
                + _number(one["skill"], "{:.2f}")
                for one in (found[cell][name] for name in methods)
            ]
            table.add_row(cell, f"{float(residual_sd):.0%}", *shown)
        table.add_section()
    return table


def _table(title: str, headings: tuple[str, ...], *rows_of: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in rows_of:
        table.add_column(heading)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _latency(taken_ms: float, best_ms: float, published: float | None, is_best: bool) -> str:
    ours = f"{taken_ms:.0f} ms" if is_best else f"{taken_ms / best_ms:.1%}"
    if published is None:
        return ours
    return ours + (rf" \[{published:.0f} ms]" if is_best else rf" \[{published:.1%}]")


def _number(value: float, shape: str) -> str:
    return "-" if math.isnan(value) else shape.format(value)

"""``isthmus study pieslicer``: resize on the device or in the cloud. It parses and prints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.output import JsonTarget, checked_picture, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

__all__ = ["command"]

_QUICK = 30
_DECISIONS = ("method", "right", "near break-even", "F1 device", "F1 cloud", "sent")
_REGRETS = ("method", "mean regret", "p99", "of best", "skill")


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
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw time against size (.svg, .png).",
            callback=checked_picture,
        ),
    ] = None,
    json_target: JsonTarget = None,
) -> None:
    """Resize photographs on the device or in the cloud: PieSlicer's choice and ours.

    Compute is measured here, the devices' slowness and the networks are emulated:
    as PieSlicer published them, on virtual time, a few requests made for real. All
    methods are judged on the same recorded times, and learn from other photographs.
    The set takes about a minute the first time, the rest about eight.

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
    for cell, methods in record["cells"].items():
        published = record["published"].get(cell, {})
        title = f"{cell}: time before the network runs, of the best of two [published]"
        rows = [_latencies(name, methods, published.get(name, {})) for name in methods]
        print_rows(out, ("method", "p50", "p95", "p99"), rows, title=title)
        rows = [_decisions(name, one, published.get(name, {})) for name, one in methods.items()]
        print_rows(out, _DECISIONS, rows, title=f"{cell}: decisions")
        rows = [_regrets(name, one) for name, one in methods.items()]
        print_rows(out, _REGRETS, rows, title=f"{cell}: what they cost")
    _print_residuals(out, record)
    factors = [
        (cell, f"{one['p50']:.2f}", f"{one['p99']:.2f}", f"{break_even['observed']:.2f} MB")
        for (cell, one), break_even in zip(
            record["factors"].items(), record["break_even_mb"].values(), strict=True
        )
    ]
    title = "All placements, as many times as fast as the best of two; where that breaks even"
    print_rows(out, ("cell", "p50", "p99", "break-even"), factors, title=title)
    regressors = [
        (name, f"{one['mape']:.1%}", f"{one['train_ms']:.2f} ms", f"{one['use_us']:.0f} us")
        for name, one in record["regressors"].items()
    ]
    headings = ("regressor", "mean error", "training", "one prediction")
    print_rows(out, headings, regressors, title="Regressors, on originals that they did not see")
    checked = record["checked_for_real"]
    if checked["cells"]:
        out.print(
            f"\nMade for real: {checked['cells']} of the recorded times, "
            f"{checked['median_error']:.1%} off (median)."
        )


def _latencies(
    name: str, methods: Mapping[str, Mapping[str, float]], published: Mapping[str, float]
) -> list[str]:
    """Return a method's row: milliseconds for the best, shares of those for the others."""
    row = [name]
    for key in ("p50", "p95", "p99"):
        best_ms, taken_ms = (methods[one][f"{key}_ms"] for one in ("optimal", name))
        is_best = name == "optimal"
        ours = f"{taken_ms:.0f} ms" if is_best else f"{taken_ms / best_ms:.1%}"
        shape = "{:.0f} ms" if is_best else "{:.1%}"
        theirs = f" [{shape.format(published[key])}]" if key in published else ""
        row.append(ours + theirs)
    return row


def _decisions(name: str, found: Mapping[str, float], published: Mapping[str, float]) -> list[str]:
    """Return a method's row."""
    theirs = f" [{published['f1']:.3f}]" if "f1" in published else ""
    return [
        name,
        f"{found['accuracy']:.3f}",
        f"{found['near_break_even_accuracy']:.3f}",
        _number(found["f1_device"], "{:.3f}") + theirs,
        _number(found["f1_cloud"], "{:.3f}"),
        f"{found['sent_ratio']:.1%}",
    ]


def _regrets(name: str, found: Mapping[str, float]) -> list[str]:
    """Return a method's row."""
    return [
        name,
        f"{found['mean_regret_ms']:.1f} ms",
        f"{found['p99_regret_ms']:.0f} ms",
        f"{found['regret_ratio']:.1%}",
        _number(found["skill"], "{:.2f}"),
    ]


def _print_residuals(out: Console, record: Mapping[str, Any]) -> None:
    """Print how well anybody can decide where the links vary, and there is something to lose."""
    methods = ("informed", "pieslicer", "isthmus_two", "isthmus")
    for cell, as_published in record["cells"].items():
        if math.isnan(as_published["on_device"]["skill"]):
            continue
        rows = [
            [
                f"{float(residual_sd):.0%}",
                *(
                    f"{one['accuracy']:.3f} {one['regret_ratio']:6.2%} "
                    + _number(one["skill"], "{:5.2f}")
                    for one in (found[cell][name] for name in methods)
                ),
            ]
            for residual_sd, found in {"0": record["cells"], **record["residuals"]}.items()
        ]
        title = f"{cell}, where transfers stray: right, regret of best, skill"
        print_rows(out, ("strays by", *methods), rows, title=title)


def _number(value: float, shape: str) -> str:
    return "-" if math.isnan(value) else shape.format(value)

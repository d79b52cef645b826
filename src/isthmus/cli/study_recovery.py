"""``isthmus study recovery``: predictions after something became slower. It parses and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.output import JsonTarget, checked_picture, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows
from isthmus.cli.zoo import zoo_package

__all__ = ["command"]

_VARIANT = "efficientnet-lite0"


def command(
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw it (.svg, .png).", callback=checked_picture),
    ] = None,
    json_target: JsonTarget = None,
) -> None:
    """Make device, server and link three times slower, and watch predictions follow.

    Real requests to a real server. The device's slowness and the link are
    emulated; the server gets a third of a processor from the kernel, which
    needs root. Takes about two minutes.

    Example: isthmus study recovery --figure recovery.svg
    """
    from isthmus.lab.studies.recovery import draw, study_recovery

    zoo = zoo_package()
    folder = zoo.model_path(_VARIANT).parent
    with progress_bars() as bars:
        study = study_recovery(
            folder,
            _VARIANT,
            photographs=zoo.photograph_paths(use="request"),
            calibration=zoo.photograph_paths(use="calibration"),
            progress=bars,
        )
    record = study.record()
    write_json(record, json_target)
    if figure is not None:
        draw(study, figure)
    if json_target == "-":
        return
    out = console()
    headings = {
        "before": "before",
        "first_slowed": "first request",
        "after_ten": "after ten",
        "first_back": "first one back",
        "after_ten_back": "after ten",
    }
    rows = [
        (
            term,
            f"x{found['latency_ratio']:.2f}",
            *(f"{found['error_ratio'][key]:.1%}" for key in headings),
        )
        for term, found in record["terms"].items()
    ]
    columns = ("what became slower", "latency", *headings.values())
    print_rows(out, columns, rows, title="Prediction error (median)")
    for term, why in record["left_out"].items():
        out.print(f"[yellow]left out:[/yellow] {term}: {why}", soft_wrap=True)

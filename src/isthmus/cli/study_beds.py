"""``isthmus study beds``: the emulated bed beside the real one. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows
from isthmus.cli.zoo import zoo_package

__all__ = ["command"]


def command(
    folder: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Where the bundles go, one for each bed; reused the next time."
        ),
    ] = Path("beds"),
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", help="Another settings file (TOML) than the demo's."
        ),
    ] = None,
    json_target: JsonTarget = None,
) -> None:
    """Run the demo on the emulated and on the real bed, and compare what is fastest.

    On the emulated bed the device idles and the link is a relay; on the real one
    the device is under a CPU quota, and TCP runs over a shaped pipe between two
    network namespaces. Linux and root only. Takes about ten minutes.

    Example: isthmus study beds --json beds.json
    """
    from isthmus.lab.demo import read_settings
    from isthmus.lab.studies.beds import study_beds

    zoo = zoo_package()
    settings = read_settings(settings_file)
    with progress_bars() as bars:
        study = study_beds(
            folder,
            zoo.model_path(settings.parts[0].variant).parent,
            settings,
            photographs=zoo.photograph_paths(),
            calibration=zoo.photograph_paths("calibration"),
            agreement=zoo.agreement_path(),
            progress=bars,
        )
    record = study.record()
    write_json(record, json_target)
    if json_target != "-":
        _print(record)


def _print(record: dict[str, Any]) -> None:
    out = console()
    title = f"{record['variant']}: time to the answer, ms (p50): emulated / real bed"
    methods = list(next(iter(record["links"].values()))["real_over_emulated"])
    rows = []
    for rate, link in record["links"].items():
        emulated, real = (link["p50_ms"][kind] for kind in ("emulated", "real"))
        winner = link["winner"]
        said = " / ".join(dict.fromkeys((winner["emulated"], winner["real"])))
        is_tie = link["agree"] and winner["emulated"] != winner["real"]
        rows.append(
            (
                f"{rate} Mbit/s",
                *(f"{emulated[m]:.0f} / {real[m]:.0f}" for m in methods),
                said + (" (equal)" if is_tie else ""),
            )
        )
    print_rows(out, ("link", *methods, "fastest static"), rows, title=title)
    out.print(
        f"The beds agree on the fastest way on {record['agree']} of {record['of']} links (medians "
        f"within {record['tie_ratio']:.0%} count as equal; the same winner on "
        f"{record['same_winner']}).",
        soft_wrap=True,
    )

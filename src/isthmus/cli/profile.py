"""``isthmus profile``: measure a bundle on this device. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.output import console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.units import checked_server, milliseconds

__all__ = ["command"]


def command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, from `isthmus build`.")],
    server: Annotated[
        str, typer.Option(callback=checked_server, help="The edge server, e.g. http://edge:8000.")
    ],
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Timed runs of each plan.")] = 8,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference here.")] = 1,
    json_target: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the figures as JSON; - prints."),
    ] = None,
) -> None:
    """Measure a bundle on this device with that server, once.

    Runs every plan for real: heads here, tails there, the input pipeline over
    a ladder of image sizes, and the link. Until it is done the old table, if
    any, stays in force.

    Example: isthmus profile app.isthmus --server http://edge:8000
    """
    from isthmus.loading.bundle import open_bundle
    from isthmus.profiling.profile import profile_bundle

    with progress_bars() as progress:
        report = profile_bundle(
            open_bundle(bundle), server, rounds=rounds, threads=threads, progress=progress
        )
    link = report.link.link
    if json_target is not None:
        write_json(
            {
                "bundle": str(bundle),
                "rows": len(report.table.rows),
                "runs": report.runs,
                "elapsed_s": report.elapsed_s,
                "link": {
                    "uplink_bytes_per_s": link.uplink_bytes_per_s,
                    "downlink_bytes_per_s": link.downlink_bytes_per_s,
                    "rtt_s": link.rtt_s,
                },
            },
            json_target,
        )
    console(stderr=json_target == "-").print(
        f"{bundle}: {len(report.table.rows)} plans measured in {report.runs} runs, "
        f"{report.elapsed_s:.1f} s; link now {link.uplink_bytes_per_s * 8e-6:.1f} Mbit/s up, "
        f"round trip {milliseconds(link.rtt_s)}\n"
        f"next: isthmus infer {bundle} PHOTO.jpg --server {server}",
        markup=False,
        soft_wrap=True,
    )

"""``isthmus study transfer``: transfers predicted and made. It parses, calls and prints."""

from __future__ import annotations

from typing import Annotated

import typer

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows

__all__ = ["command"]


def command(
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often each exchange is made on each link.")
    ] = 2,
    json_target: JsonTarget = None,
) -> None:
    """Predict exchanges of 15 to 600 KB by bytes over the rate and by TCP's rounds.

    Real TCP over a shaped pipe between two network namespaces: nine links, over
    connections that are new, idle or warm. Linux and root only. Takes about a
    minute and a half for each repeat.

    Example: isthmus study transfer --json transfer.json
    """
    from isthmus.lab.studies.transfer_scores import score_transfers

    with progress_bars() as bars:
        record = score_transfers(repeats=repeats, progress=bars).record()
    write_json(record, json_target)
    if json_target == "-":
        return
    out = console()
    ways = {
        "bytes_over_rate_only": "bytes / rate",
        "bytes_over_rate": "bytes / rate + round trips",
        "rounds": "by rounds",
    }
    rows = [
        (name, *(f"{errors[way]['median']:.1%}  {errors[way]['p95']:.1%}" for way in ways))
        for name, errors in {"all": record, **record["by_connection"]}.items()
    ]
    title = f"Error of predictions of {record['exchanges']} exchanges: median, 95th percentile"
    print_rows(out, ("connection", *ways.values()), rows, title=title)
    out.print(f"{record['dropped_packets']} packets were dropped by full queues.", soft_wrap=True)

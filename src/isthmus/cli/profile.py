"""``isthmus profile``: measure a bundle on this device. It parses, calls and prints."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.output import console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.units import checked_server, milliseconds, ratio_from_text, seconds_from_text

if TYPE_CHECKING:
    from rich.table import Table

    from isthmus.profiling.profile import ProfileReport
    from isthmus.profiling.store import ProfileStore

__all__ = ["command"]

_DAY_S = 86400.0


def command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, from `isthmus build`.")],
    server: Annotated[
        str, typer.Option(callback=checked_server, help="The edge server, e.g. http://edge:8000.")
    ],
    precision: Annotated[
        str,
        typer.Option(
            help="Run each plan until half the 95 % confidence interval of its median is this "
            "share of it."
        ),
    ] = "5%",
    budget: Annotated[
        str, typer.Option(help="Run no plan again after this time that was run at all.")
    ] = "60s",
    pause: Annotated[
        str | None,
        typer.Option(
            help="Idle before each run, e.g. 500ms, if requests will come as seldom: "
            "a processor that was idle is slower."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference here.")] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure everything again, whatever is known.")
    ] = False,
    max_age: Annotated[
        float, typer.Option(min=0, help="Measure again what is known for more days than these.")
    ] = 30,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Where measurements are kept; by default $ISTHMUS_PROFILES, or a file in your "
            "data folder."
        ),
    ] = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Neither look up nor keep measurements.")
    ] = False,
    json_target: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the figures as JSON; - prints."),
    ] = None,
) -> None:
    """Measure a bundle on this device with that server, once.

    Runs every plan for real: heads here, tails there, the input pipeline over
    a ladder of image sizes, and the link. Until it is done the old table, if
    any, stays in force.

    What was measured is kept, also if you stop it with Ctrl-C: the next profile
    of the same networks, device, server and versions measures only what is
    missing or too old (isthmus profiles lists it).

    Example: isthmus profile app.isthmus --server http://edge:8000
    """
    from isthmus.loading.bundle import open_bundle
    from isthmus.profiling.plans import Effort
    from isthmus.profiling.profile import Kept, profile_bundle

    effort = Effort(
        _parsed(ratio_from_text, precision, "--precision"),
        _parsed(seconds_from_text, budget, "--budget"),
        _parsed(seconds_from_text, pause, "--pause") if pause is not None else 0.0,
    )
    now_s = time.time()
    since_s = now_s if fresh else now_s - max_age * _DAY_S
    opened_bundle = open_bundle(bundle)
    with ExitStack() as stack:
        kept, trouble = _opened(None if no_store else store, no_store, stack)
        progress = stack.enter_context(progress_bars())
        report = profile_bundle(
            opened_bundle,
            server,
            effort=effort,
            kept=Kept(kept, since_s),
            threads=threads,
            progress=progress,
        )
    trouble = trouble or report.store_failure
    if json_target is not None:
        write_json({"bundle": str(bundle), **_record(report, trouble)}, json_target)
    out = console(stderr=json_target == "-")
    link = report.link.link
    out.print(_summary(report))
    if trouble:
        out.print(f"nothing is kept: {trouble}", markup=False, soft_wrap=True)
    out.print(
        f"{bundle}: {len(report.table.rows)} plans, {_measured(report)} in {report.runs} runs, "
        f"{report.elapsed_s:.1f} s; link now {link.uplink_bytes_per_s * 8e-6:.1f} Mbit/s up, "
        f"round trip {milliseconds(link.rtt_s)}\n"
        f"next: isthmus infer {bundle} PHOTO.jpg --server {server}",
        markup=False,
        soft_wrap=True,
    )


def _opened(path: Path | None, no_store: bool, stack: ExitStack) -> tuple[ProfileStore | None, str]:
    """Return the store, or none and why."""
    from isthmus.errors import StoreError
    from isthmus.profiling.store import ProfileStore, default_path

    if no_store:
        return None, ""
    try:
        return stack.enter_context(ProfileStore(path or default_path())), ""
    except StoreError as error:
        return None, str(error)


def _parsed(parse: Any, text: str, option: str) -> float:
    try:
        return float(parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _measured(report: ProfileReport) -> str:
    new = len(report.plans) - report.kept
    return f"{new} measured" if not report.kept else f"{new} measured, {report.kept} known already"


def _summary(report: ProfileReport) -> Table:
    """Return one row a network: how well its plans are known, and what its parts take."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", overflow="fold")
    for heading in (
        "plans", "runs each", "half width", "worst", "not known", "all here", "load", "memory",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for name in dict.fromkeys(runs.row.variant for runs in report.plans):
        plans = [runs for runs in report.plans if runs.row.variant == name]
        widths = sorted(runs.measurement.half_width_ratio for runs in plans)
        counts = [runs.measurement.count for runs in plans]
        local = next((runs for runs in plans if runs.row.is_local), None)
        whole = report.heads.get((name, ""))
        table.add_row(
            Text(name),
            str(len(plans)),
            f"{min(counts)} to {max(counts)}",
            f"{widths[len(widths) // 2]:.1%}",
            f"{widths[-1]:.1%}",
            str(sum(not runs.is_known for runs in plans)),
            milliseconds(local.median_s("head")) if local else "",
            milliseconds(whole.load_s) if whole else "",
            f"{whole.resident_bytes / 1e6:.0f} MB" if whole else "",
        )
    return table


def _record(report: ProfileReport, trouble: str) -> dict[str, Any]:
    link = report.link.link
    return {
        "rows": len(report.table.rows),
        "runs": report.runs,
        "kept": report.kept,
        "elapsed_s": report.elapsed_s,
        "store_failure": trouble,
        "link": {
            "uplink_bytes_per_s": link.uplink_bytes_per_s,
            "downlink_bytes_per_s": link.downlink_bytes_per_s,
            "rtt_s": link.rtt_s,
        },
        "plans": [
            {
                "plan": runs.row.label,
                "median_s": runs.measurement.median_s,
                "mean_s": runs.measurement.mean_s,
                "sd_s": runs.measurement.sd_s,
                "count": runs.measurement.count,
                "warm_ups": runs.measurement.warm_ups,
                "half_width_ratio": runs.measurement.half_width_ratio,
                "is_known": runs.is_known,
            }
            for runs in report.plans
        ],
        "heads": [
            {
                "variant": variant,
                "cut_id": cut_id,
                "load_s": cost.load_s,
                "resident_bytes": cost.resident_bytes,
            }
            for (variant, cut_id), cost in report.heads.items()
        ],
        "units": {
            unit: {"load_s": cost.load_s, "resident_bytes": cost.resident_bytes}
            for unit, cost in report.units.items()
        },
    }

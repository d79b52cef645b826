"""``isthmus profile``: measure a bundle on this device. It parses, calls and prints."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.output import JsonTarget, checked_file, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows
from isthmus.cli.units import (
    checked_server,
    megabits,
    milliseconds,
    parsed,
    ratio_from_text,
    seconds_from_text,
)

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.loading.bundle import Bundle
    from isthmus.profiling.profile import ProfileReport
    from isthmus.profiling.store import ProfileStore
    from isthmus.types.progress import Progress

__all__ = ["command"]

_AGAIN = {False: "the same command", True: "the same command without --fresh"}
_DAY_S = 86400.0


def command(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="From `isthmus build`.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL", callback=checked_server, help="The edge server, e.g. http://edge:8000."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="Run each plan until half the 95 % confidence interval of its median is this "
            "share of it.",
        ),
    ] = "5%",
    budget: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="For running plans again and again; each is run a few times in any case.",
        ),
    ] = "60s",
    pause: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Idle before each run, e.g. 500ms, if requests will come as seldom: "
            "a processor that was idle is slower.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="Threads of one inference here.")
    ] = 1,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure everything again, whatever is known.")
    ] = False,
    max_age: Annotated[
        float,
        typer.Option(
            min=0, metavar="DAYS", help="Measure again what is known for more days than these."
        ),
    ] = 30,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where measurements are kept; by default a file in your data folder, or what "
            "$ISTHMUS_PROFILES names.",
        ),
    ] = None,
    no_store: Annotated[
        bool, typer.Option("--no-store", help="Neither look up nor keep measurements.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Without bundle and server: measure single layers and fit a site model, to plan "
            "for this device where it is absent.",
        ),
    ] = False,
    networks: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="With --layers: an ONNX file, or a folder of them; may be repeated. Default: "
            "those of isthmus-zoo.",
        ),
    ] = None,
    save_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --layers: where the site model goes, as JSON.",
            callback=checked_file,
        ),
    ] = None,
    complete: Annotated[
        bool,
        typer.Option(help="Add the cuts that the measured times call for, and measure them."),
    ] = True,
    json_target: JsonTarget = None,
) -> None:
    """Measure a bundle on this device with that server, once.

    Runs every plan for real: heads here, tails there, the input pipeline over
    a ladder of image sizes, and the link. Until it is done the old table, if
    any, stays in force.

    What was measured is kept, also if you stop it with Ctrl-C: the next profile
    of the same networks, device, server and versions measures only what is
    missing or too old (isthmus profiles lists it).

    The first cuts were chosen by estimates. Where onnx and scipy are installed,
    cuts that look better by what was measured are added, until none does.

    With --layers it measures no bundle but what single layers cost here, and
    fits a site model to it: see isthmus plan --device-model.

    Example: isthmus profile app.isthmus --server http://edge:8000

    Example: isthmus profile --layers --save-model kiosk.json
    """
    if layers:
        if bundle is not None or server is not None:
            raise typer.BadParameter("--layers goes without a bundle and --server")
        from isthmus.cli.profile_layers import profile_layers

        profile_layers(networks or [], save_model, threads, json_target)
        return
    if bundle is None or server is None:
        raise typer.BadParameter("a bundle and --server are needed, or --layers")
    if networks or save_model is not None:
        raise typer.BadParameter("--networks and --save-model go with --layers")
    from isthmus.profiling.plans import Effort
    from isthmus.profiling.profile import Kept, profile_bundle

    effort = Effort(
        parsed(ratio_from_text, precision, "--precision"),
        parsed(seconds_from_text, budget, "--budget"),
        parsed(seconds_from_text, pause, "--pause") or 0.0,
    )
    now_s = time.time()
    since_s = now_s if fresh else now_s - max_age * _DAY_S
    reports: list[ProfileReport] = []
    out = console(stderr=json_target == "-")
    with ExitStack() as stack:
        kept, trouble = _opened(store, no_store, stack)
        if trouble:
            out.print(f"nothing will be kept: {trouble}", markup=False, soft_wrap=True)
        progress = stack.enter_context(progress_bars())

        def profile(opened: Bundle) -> ProfileReport:
            reports.append(
                profile_bundle(
                    opened,
                    server,
                    effort=effort,
                    kept=Kept(kept, since_s),
                    threads=threads,
                    progress=progress,
                )
            )
            return reports[-1]

        try:
            rounds, completion = _completed(bundle, profile, complete, progress)
        except KeyboardInterrupt:
            if not (trouble or no_store):
                print(f"what was measured is kept: {_AGAIN[fresh]} goes on", file=sys.stderr)
            raise
    report = reports[-1]
    if json_target is not None:
        record = _record(reports, trouble or report.store_failure)
        figures = {**record, "rounds": rounds, "completion": completion}
        write_json({"bundle": str(bundle), **figures}, json_target)
    link = report.link.link
    _print_summary(out, report)
    if not all(math.isfinite(runs.measurement.half_width_ratio) for runs in report.plans):
        out.print("?: too few runs to tell; a longer --budget has more", soft_wrap=True)
    if report.store_failure:
        out.print(f"nothing was kept: {report.store_failure}", markup=False, soft_wrap=True)
    for what in report.disagreements:
        out.print(f"warning: {what}", markup=False, soft_wrap=True)
    out.print(f"cuts: {completion}", markup=False, soft_wrap=True)
    out.print(
        f"{bundle}: {len(report.table.rows)} plans, {_measured(reports)}; "
        f"{sum(r.runs for r in reports)} runs (of decoding alone, too), "
        f"{sum(r.elapsed_s for r in reports):.1f} s; "
        f"link now {megabits(link.uplink_bytes_per_s)} up, "
        f"round trip {milliseconds(link.rtt_s)}\n"
        f"next: isthmus infer {bundle} PHOTO.jpg --server {server}",
        markup=False,
        soft_wrap=True,
    )


def _completed(
    path: Path, profile: Callable[[Bundle], ProfileReport], is_wanted: bool, progress: Progress
) -> tuple[list[dict[str, Any]], str]:
    """Profile, with the cuts completed if that is wanted and can be done; say what was found."""
    from isthmus.loading.bundle import open_bundle

    why_not = "not completed (--no-complete)"
    if is_wanted:
        try:
            from isthmus.building.complete import profile_until_complete

            _, rounds = profile_until_complete(path, profile, progress=progress)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("onnx", "scipy"):
                raise
            why_not = f"not completed, {error.name} is not installed here: install isthmus[build]"
        else:
            figures = [
                {
                    "cuts": {name: [*map(list, one.cuts)] for name, one in r.found.items()},
                    "plans": r.plans,
                    "gap_ratio": max(one.gap_ratio for one in r.found.values()),
                    "left_ratio": max(one.left_ratio for one in r.found.values()),
                }
                for r in rounds
            ]
            count = sum(r.cuts for r in rounds)
            left_ratio = figures[-1]["left_ratio"]
            added = f"{count} added" if count else "none missing"
            return figures, (
                f"{added} in {len(rounds)} {'round' if len(rounds) == 1 else 'rounds'}; any other "
                f"would save {left_ratio:.1%} at most, by the times measured"
            )
    profile(open_bundle(path))
    return [], why_not


def _opened(path: Path | None, no_store: bool, stack: ExitStack) -> tuple[ProfileStore, str]:
    """Return the store, or one that is thrown away and why."""
    from isthmus.errors import StoreError
    from isthmus.profiling.store import IN_MEMORY, ProfileStore, default_path

    trouble = ""
    if not no_store:
        try:
            return stack.enter_context(ProfileStore(path or default_path())), ""
        except StoreError as error:
            trouble = str(error)
    return stack.enter_context(ProfileStore(IN_MEMORY)), trouble


def _measured(reports: Sequence[ProfileReport]) -> str:
    total, known = len(reports[-1].plans), reports[0].kept
    return f"{total - known} measured" + (f", {known} known already" if known else "")


def _print_summary(out: Console, report: ProfileReport) -> None:
    """Print a row a network: how well its plans are known, and what its parts take."""
    rows = []
    for name in dict.fromkeys(runs.row.variant for runs in report.plans):
        plans = [runs for runs in report.plans if runs.row.variant == name]
        widths = sorted(runs.measurement.half_width_ratio for runs in plans)
        counts = [runs.measurement.count for runs in plans]
        local = next((runs for runs in plans if runs.row.is_local), None)
        whole = report.heads.get((name, ""))
        rows.append(
            (
                name,
                str(len(plans)),
                f"{min(counts)} to {max(counts)}",
                _share(widths[len(widths) // 2]),
                _share(widths[-1]),
                str(sum(not runs.is_known for runs in plans)),
                milliseconds(local.median_s("head")) if local else "",
                milliseconds(whole.load_s) if whole else "",
                f"{whole.resident_bytes / 1e6:.0f} MB" if whole else "",
            )
        )
    headings = ("network", "plans", "runs", "±", "± worst", "unsure")
    print_rows(out, (*headings, "all here", "load", "memory"), rows)
    out.print(
        "±: half the width of a median's 95 % interval, of the plan in the middle and of the "
        "worst; unsure: plans where it is more than --precision. all here: one run of the whole "
        "network on this device, and what loading it takes",
        style="dim",
    )


def _share(ratio: float) -> str:
    """Return a share as people read it; too few runs have none."""
    return f"{ratio:.1%}" if math.isfinite(ratio) else "?"


def _record(reports: Sequence[ProfileReport], trouble: str) -> dict[str, Any]:
    report = reports[-1]
    link = report.link.link
    return {
        "rows": len(report.table.rows),
        "runs": sum(r.runs for r in reports),
        "kept": reports[0].kept,
        "elapsed_s": sum(r.elapsed_s for r in reports),
        "store_failure": trouble,
        "disagreements": list(report.disagreements),
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

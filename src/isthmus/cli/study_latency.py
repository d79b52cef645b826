"""``isthmus study latency``: predictions and what happens. It parses, calls and prints."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from isthmus.lab.studies.latency_requests import Material
    from isthmus.lab.studies.network_files import NetworkFile

__all__ = ["command"]

_PARTS = "compute, relay, real-bed, transfer, link, regressors"
_TOO_LARGE = ("light_vgg19", "light_zfnet512")

_COLUMNS = {
    "sum_of_layers": "sum of layers",
    "regression": "site model",
    "regression_papers": "papers' features",
    "segments": "segments",
    "noise_floor": "noise floor",
    "end_to_end": "whole requests",
}


def command(
    networks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only networks of this name, e.g. 'light_*'; may be repeated."
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Only this part: {_PARTS}; may be repeated."),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Keeps what was measured; what is there is not measured again."
        ),
    ] = Path("latency"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure networks for half the time.")
    ] = False,
    json_target: JsonTarget = None,
) -> None:
    """Predict heads, tails, requests and transfers, and compare with what they take.

    Networks are cut, and their parts run in two processes: what the first one
    measured predicts what the second one does at cuts that were held out, one
    run after the other and with gaps of half a second. Then whole requests over
    the emulated bed and the real one (Linux and root), transfers, the link's
    estimate over traces, and regressors. All of it takes about 25 minutes, a
    network 45 s; it may be interrupted, or done in pieces by --networks and
    --part: run it without them afterwards for the whole record.

    Example: isthmus study latency --networks 'efficientnet-*' --part compute
    """
    from isthmus.lab.studies.latency import PARTS, study_latency
    from isthmus.lab.studies.latency_process import Effort

    parts = [known for known in PARTS if not part or known in part]
    if unknown := set(part or ()) - set(PARTS):
        raise typer.BadParameter(
            f"there is no part {min(unknown)!r}: there are {_PARTS}", param_hint="--part"
        )
    found, left_out = _networks(networks)
    with progress_bars() as bars:
        study = study_latency(
            folder,
            found,
            material=_material(),
            parts=parts,
            effort=Effort(busy_s=4.0, idle_s=4.0) if quick else None,
            absent=left_out,
            progress=bars,
        )
    record = study.record()
    write_json(record, json_target)
    if json_target != "-":
        _print(console(), record)


def _networks(patterns: Sequence[str] | None) -> tuple[dict[str, NetworkFile], dict[str, str]]:
    from isthmus.lab.studies.network_files import available_networks

    found, left_out = available_networks()
    for name in _TOO_LARGE:
        if found.pop(name, None) is not None:
            left_out[name] = "its parts would need too much memory"
    if patterns:
        found = {n: f for n, f in found.items() if any(fnmatchcase(n, p) for p in patterns)}
        left_out = {n: w for n, w in left_out.items() if any(fnmatchcase(n, p) for p in patterns)}
        if not found:
            raise typer.BadParameter(f"no network is named {patterns[0]}", param_hint="--networks")
    return found, left_out


def _material() -> Material | None:
    from isthmus.cli.zoo import zoo_package
    from isthmus.errors import RepositoryError
    from isthmus.lab.studies.latency_requests import Material

    try:
        zoo = zoo_package()
    except RepositoryError:
        return None
    names = zoo.model_names()
    return Material(
        zoo.model_path(names[0]).parent,
        names,
        zoo.photograph_paths(),
        zoo.photograph_paths("calibration"),
        zoo.agreement_path(),
    )


def _print(out: Console, record: dict[str, Any]) -> None:
    if record["networks"]:
        _print_networks(out, record)
    for bed, asked in record.get("requests", {}).items():
        if bed != "settings":
            rows = {"all": asked["overall"], "first round": asked["first_round"]}
            for by in ("families", "links_mbit_per_s", "networks"):
                unit = " Mbit/s" if by.startswith("links") else ""
                rows |= {f"{key}{unit}": figures for key, figures in asked[by].items()}
            _table(
                out, f"Whole requests, {bed} bed", "", ["error"], {n: [f] for n, f in rows.items()}
            )
    if "transfer" in record:
        ways = {
            "bytes_over_rate_only": "bytes / rate",
            "bytes_over_rate": "bytes / rate + round trips",
            "rounds": "by rounds",
        }
        found = record["transfer"]
        rows_of = {"all": found, **found["by_connection"]}
        _table(
            out,
            "Transfers over the real bed",
            "connection",
            list(ways.values()),
            {name: [errors.get(way) for way in ways] for name, errors in rows_of.items()},
        )
    if "link" in record:
        scores = {name: score["interval_coverage"] for name, score in record["link"].items()}
        print_rows(
            out,
            ("estimator", "error", "within 90 % bounds"),
            [
                (name, _pair(record["link"][name]), "" if inside is None else f"{inside:.0%}")
                for name, inside in scores.items()
            ],
            title="The next exchange's duration over traces: median error, 95th percentile",
        )
    for kind, compared in record.get("regressors", {}).items():
        title = f"{compared['layers']} {kind} of {compared['networks']} networks, each held out"
        rows_of_scores = [
            (
                name,
                f"{score['mape']:.0%}",
                f"{score['median_ape']:.0%}",
                f"{score['search_ms'] + score['train_ms']:.0f} ms",
                f"{score['use_us']:.0f} us",
            )
            for name, score in compared["scores"].items()
        ]
        headings = ("regressor", "mean error", "median", "to train", "to use")
        print_rows(out, headings, rows_of_scores, title=title)
    for name, why in record["left_out"].items():
        out.print(f"[yellow]left out:[/yellow] {escape(name)}: {escape(why)}", soft_wrap=True)


def _print_networks(out: Console, record: dict[str, Any]) -> None:
    networks, overall = record["networks"], record["overall"]
    rows = {**networks, "all": overall}
    _table(
        out,
        "Heads and tails of cuts held out, in another process",
        "network",
        list(_COLUMNS.values()),
        {name: [one["error_ratio"].get(way) for way in _COLUMNS] for name, one in rows.items()},
    )
    sets = {
        "one after the other": "error_ratio",
        "heads": "heads",
        "tails": "tails",
        "head and tail": "sequence",
        "further cuts": "further_cuts",
        "with gaps of 0.5 s": "with_gaps",
    }
    _table(
        out,
        "All networks",
        "",
        list(_COLUMNS.values())[:-1],
        {said: [overall[key].get(way) for way in list(_COLUMNS)[:-1]] for said, key in sets.items()}
        | {
            "with gaps, fitted to them": [
                overall["with_gaps"].get(f"{way}_at_cadence", overall["with_gaps"].get(way))
                for way in list(_COLUMNS)[:-1]
            ]
        },
    )
    gaps = {n: one["measured_gap"] for n, one in networks.items() if "measured_gap" in one}
    if gaps:
        ways = list(next(iter(gaps.values()))["loss_ratio"])
        title = "Measured loss against the best of all cuts, chosen and scored apart (mean, worst)"
        rows_of_gaps = []
        for name, gap in gaps.items():
            losses = [gap["loss_ratio"][way] for way in ways]
            told = (f"{loss['mean']:.1%}  {loss['max']:.1%}" for loss in losses)
            rows_of_gaps.append((name, str(gap["cuts"]), str(gap["candidates"]), *told))
        headings = ("network", "cuts", "candidates", *(way.replace("_", " ") for way in ways))
        print_rows(out, headings, rows_of_gaps, title=title)


def _table(
    out: Console,
    title: str,
    first: str,
    columns: Sequence[str],
    rows: Mapping[str, Sequence[Mapping[str, float] | None]],
) -> None:
    """Print errors: median and 95th percentile."""
    print_rows(
        out,
        (first, *columns),
        [(name, *map(_pair, errors)) for name, errors in rows.items()],
        title=f"{title}: median error, 95th percentile",
    )


def _pair(errors: Mapping[str, float] | None) -> str:
    if not errors or "median" not in errors:
        return "-"
    return f"{errors['median']:.1%}  {errors['p95']:.1%}"

"""``isthmus build``: from networks to a bundle. It parses, calls and prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows
from isthmus.cli.units import parsed, ratio_from_text
from isthmus.errors import BundleError

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.building.build import BuildReport
    from isthmus.loading.bundle import Candidate

__all__ = ["command", "zoo_agreement"]

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


def command(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODELS", help="A model repository (the one the server serves), or ONNX files."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The bundle to write.")
    ],
    photographs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Photographs: on them, or on crops of them if they are fewer than "
            "--agreement-images, lossy plans must keep the answers, or be left out. Default: the "
            "zoo's, if isthmus-zoo is installed.",
        ),
    ] = None,
    tolerance: Annotated[
        str,
        typer.Option(
            metavar="SHARE", help="Share of the answers that a lossy plan may change, e.g. 0.5%."
        ),
    ] = "0.5%",
    images: Annotated[
        int,
        typer.Option(
            "--agreement-images",
            min=0,
            metavar="N",
            help="On how many images that is counted, about a minute a network for 1000; "
            "0 keeps no lossy plan.",
        ),
    ] = 1000,
    agreement: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Counts of earlier builds: read, added to, made if missing. The zoo's networks "
            "have been counted on the zoo's photographs.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="A few camera-sized photographs that go into the bundle, for the device "
            "to measure with. Default: the zoo's, if isthmus-zoo is installed.",
        ),
    ] = None,
    cuts: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="At most so many cuts a network.")
    ] = 8,
    json_target: JsonTarget = None,
) -> None:
    """Build a bundle from networks for one task, on a workstation, once.

    Finds where each network is worth cutting, writes the device's parts,
    checks which lossy plans keep the answer, and packs all that a device
    needs. Next: `isthmus profile`, on the device.

    Example: isthmus build models/ -o app.isthmus
    """
    from isthmus.building.build import build_bundle
    from isthmus.building.ledger import Ledger
    from isthmus.building.selection import Tolerance

    allowed = Tolerance(
        parsed(ratio_from_text, tolerance, "--tolerance"),
        images,
        Ledger(agreement, known=zoo_agreement()),
    )
    found = _find_models(models)
    with progress_bars() as progress:
        report = build_bundle(
            found,
            output,
            photographs=_images(photographs, None, found),
            calibration=_images(calibration, "calibration", found),
            cuts_per_variant=cuts,
            tolerance=allowed,
            progress=progress,
        )
    if json_target is not None:
        write_json(
            {
                "bundle": str(report.path),
                "size_bytes": report.size_bytes,
                "agreement_images": report.images,
                "tolerance": allowed.ratio,
                "cuts": {
                    name: {
                        "tensors": [list(cut) for cut in found.cuts],
                        "latency_gap_ratio": found.latency_gap_ratio,
                        "stage_gap_ratio": found.stage_gap_ratio,
                    }
                    for name, found in report.cuts.items()
                },
                "plans": [candidate.row.label for candidate in report.candidates],
                "agreement": _counts(report.candidates),
                "left_out": _counts(report.dropped),
                "not_asked_for": [row.label for row in report.unasked],
            },
            json_target,
        )
    _print_report(console(stderr=json_target == "-"), report)


def _print_report(out: Console, report: BuildReport) -> None:
    """Print a row a network, what was left out and why, and what comes next."""
    plans = Counter(candidate.row.variant for candidate in report.candidates)
    rows = [
        (
            name,
            str(plans[name]),
            str(len(found.cuts)),
            f"{found.latency_gap_ratio:.1%}",
            f"{found.stage_gap_ratio:.1%}",
        )
        for name, found in report.cuts.items()
    ]
    print_rows(out, ("network", "plans", "cuts", "answer", "stream"), rows)
    out.print(
        "answer, stream: what other cuts than these would save, at most and as estimated, of the "
        "time to an answer and of a stream's longest stage",
        style="dim",
    )
    lines = _left_out(report.dropped)
    if report.unasked:
        lines.append(
            f"left out: {len(report.unasked)} plans whose codec no link would ask for, since "
            "another one of the same cut is faster and loses no more (--json names them)"
        )
    lines += [
        f"{report.path}: {len(report.candidates)} plans, {report.size_bytes / 1e6:.1f} MB",
        f"next, on the device: isthmus profile {report.path} --server http://HOST:8000",
    ]
    out.print("\n".join(lines), markup=False, soft_wrap=True)


def _counts(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return agreement, its 95 % interval and the images by label, of the lossy plans."""
    found = {}
    for candidate in candidates:
        if not candidate.row.is_lossless:
            count = candidate.count
            low, high = count.interval
            found[candidate.row.label] = {
                "agreement": count.ratio,
                "low": low,
                "high": high,
                "images": count.of,
            }
    return found


def _left_out(dropped: Sequence[Candidate]) -> list[str]:
    """Say in a line a network which lossy plans change too many answers, and how many."""
    by_network: dict[str, list[str]] = {}
    for candidate in dropped:
        name, count = candidate.row.variant, candidate.count
        plan = candidate.row.label.removeprefix(name).strip()
        changed = f"{count.of - count.counted} of {count.of}" if count.of else "not counted"
        by_network.setdefault(name, []).append(f"{plan} ({changed})")
    return [
        f"left out of {name}, for the answers changed: {', '.join(plans)}"
        for name, plans in by_network.items()
    ]


def zoo_agreement() -> Path | None:
    """Return the file of what has been counted for the zoo's networks, if they are installed."""
    try:
        import isthmus_zoo
    except ImportError:
        return None
    return Path(isthmus_zoo.agreement_path())


def _find_models(paths: list[Path]) -> dict[str, Path]:
    from isthmus.loading.onnx_file import model_name
    from isthmus.loading.repository import scan_repository

    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            here = {model.name: model.path for model in scan_repository(path)}
        else:
            here = {model_name(path): path}
        if twice := sorted(found.keys() & here.keys()):
            raise BundleError(f"two models are named {twice[0]}: {found[twice[0]]} and {path}")
        found |= here
    return found


def _images(folder: Path | None, zoo_use: str | None, models: Mapping[str, Path]) -> list[Path]:
    """Return the images of a folder, or the zoo's for that use and the models' task."""
    if folder is not None:
        if not folder.is_dir():
            raise BundleError(f"{folder} is no folder of images")
        images = sorted(p for p in folder.glob("*") if p.suffix.lower() in _IMAGES)
        if not images:
            raise BundleError(f"{folder} holds no image ({', '.join(_IMAGES)})")
        return images
    try:
        import isthmus_zoo
    except ImportError:
        return []
    from isthmus.loading.onnx_file import load_metadata

    tasks = {load_metadata(path).get("isthmus.task") for path in models.values()}
    known = isthmus_zoo.tasks()
    task = next((task for task in known if task in tasks), known[0])
    return list(isthmus_zoo.photograph_paths(zoo_use, task=task))

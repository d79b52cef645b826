"""``isthmus build``: from networks to a bundle. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.output import console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.errors import BundleError

__all__ = ["command"]

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")


def command(
    models: Annotated[
        list[Path],
        typer.Argument(help="A model repository (the one the server serves), or ONNX files."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write.")],
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs on which lossy plans must keep the answer, or be left "
            "out. Default: the zoo's, if isthmus-zoo is installed."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a few camera-sized photographs that go into the bundle, for the device "
            "to measure with. Default: the zoo's, if isthmus-zoo is installed."
        ),
    ] = None,
    cuts: Annotated[int, typer.Option(min=0, max=64, help="At most so many cuts a network.")] = 8,
    json_target: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the plans as JSON; - prints."),
    ] = None,
) -> None:
    """Build a bundle from networks for one task, on a workstation, once.

    Finds where each network is worth cutting, writes the device's parts,
    checks which lossy plans keep the answer, and packs all that a device
    needs. Next: `isthmus profile`, on the device.

    Example: isthmus build models/ -o app.isthmus
    """
    from isthmus.building.build import build_bundle

    with progress_bars() as progress:
        report = build_bundle(
            _find_models(models),
            output,
            photographs=_images(photographs, None),
            calibration=_images(calibration, "calibration"),
            cuts_per_variant=cuts,
            progress=progress,
        )
    if json_target is not None:
        write_json(
            {
                "bundle": str(report.path),
                "size_bytes": report.size_bytes,
                "photographs": report.photographs,
                "plans": [candidate.row.label for candidate in report.candidates],
                "left_out": {c.row.label: c.agreement for c in report.dropped},
            },
            json_target,
        )
    lines = [f"{report.path}: {len(report.candidates)} plans, {report.size_bytes / 1e6:.1f} MB"]
    for candidate in report.dropped:
        share = (
            f"keeps {candidate.agreement:.0%} of {report.photographs} answers"
            if report.photographs
            else "not checked, no photographs"
        )
        lines.append(f"  left out: {candidate.row.label} ({share})")
    lines.append(f"next, on the device: isthmus profile {report.path} --server http://HOST:8000")
    console(stderr=json_target == "-").print("\n".join(lines), markup=False, soft_wrap=True)


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


def _images(folder: Path | None, zoo_use: str | None) -> list[Path]:
    """Return the images of a folder, or the zoo's for that use."""
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
    return list(isthmus_zoo.photograph_paths(zoo_use))

"""``isthmus profile --layers``: fit a site model to single layers. It calls and prints."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from isthmus.cli.output import console, write_json
from isthmus.cli.progress import progress_bars
from isthmus.cli.rows import print_rows

if TYPE_CHECKING:
    from isthmus.estimation.site_model import MeasuredNetwork, SiteModel
    from isthmus.types.graph import ModelGraph

__all__ = ["profile_layers"]


def profile_layers(
    networks: Sequence[Path], save_model: Path | None, threads: int, json_target: str | None
) -> None:
    """Measure the layers of some networks here, fit a site model, and say how wrong it is."""
    from isthmus.estimation.site_model import fit_site_model
    from isthmus.profiling.site_model_file import save_site_model
    from isthmus.runtime.session import ONNXRUNTIME_VERSION

    files = _files(networks)
    if len(files) < 3:
        raise typer.BadParameter(
            f"{len(files)} networks are too few to fit a site model and find its error: name at "
            "least 3 ONNX files or folders of them",
            param_hint="--networks",
        )
    measured = []
    with progress_bars() as progress:
        progress.begin("networks", len(files))
        for file in files:
            measured.append(_measured(file, threads))
            progress.advance(measured[-1].name)
    model = fit_site_model(
        platform.node(),
        measured,
        record={
            "machine": platform.machine(),
            "onnxruntime": ONNXRUNTIME_VERSION,
            "threads": threads,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )
    papers = fit_site_model(model.name, measured, features="papers")
    if save_model is not None:
        save_site_model(model, save_model)
    if json_target is not None:
        write_json(_record(model, papers, measured), json_target)
    _print(model, papers, measured, save_model, has_json_on_stdout=json_target == "-")


def _files(named: Sequence[Path]) -> list[Path]:
    from isthmus.cli.zoo import zoo_package

    if not named:
        zoo = zoo_package()
        return [zoo.model_path(name) for name in zoo.model_names()]
    return [
        file
        for path in named
        for file in (sorted(path.rglob("*.onnx")) if path.is_dir() else [path])
    ]


def _measured(file: Path, threads: int) -> MeasuredNetwork:
    from isthmus.estimation.site_model import MeasuredNetwork
    from isthmus.estimation.units import fused_units, work_of
    from isthmus.loading.onnx_file import load_graph
    from isthmus.profiling.layers import measure_layers

    graph: ModelGraph = load_graph(file)
    times = measure_layers(graph, file, threads=threads)
    return MeasuredNetwork(
        name=graph.name,
        units=tuple(work_of(graph, unit.layers) for unit in times.units),
        seconds=tuple(unit.seconds for unit in times.units),
        network_s=times.network_s,
        predictable=tuple(
            work_of(graph, unit) for unit in fused_units(graph, range(len(graph.layers)))
        ),
    )


def _record(
    model: SiteModel, papers: SiteModel, measured: Sequence[MeasuredNetwork]
) -> dict[str, object]:
    return {
        "name": model.name,
        "errors": dict(model.errors),
        "errors_with_papers_features": dict(papers.errors),
        "spread_ratio": model.spread_ratio,
        "overhead_s": model.overhead_s,
        "scale_ratio": model.scale_ratio,
        "kinds": {
            kind: {"rows": found.rows, "spread_ratio": found.spread_ratio}
            for kind, found in model.regression.models.items()
        },
        "networks": {
            network.name: {
                "units": len(network.units),
                "sum_of_units_s": sum(network.seconds),
                "network_s": network.network_s,
            }
            for network in measured
        },
        "record": dict(model.record),
    }


def _print(
    model: SiteModel,
    papers: SiteModel,
    measured: Sequence[MeasuredNetwork],
    saved: Path | None,
    *,
    has_json_on_stdout: bool,
) -> None:
    out = console(stderr=has_json_on_stdout)
    rows = [
        (
            network.name,
            str(len(network.units)),
            f"{sum(network.seconds) * 1e3:.2f} ms",
            f"{network.network_s * 1e3:.2f} ms",
        )
        for network in measured
    ]
    print_rows(out, ("network", "units", "sum of units", "whole"), rows)
    errors = model.errors
    lines = [
        "each network predicted from the others: median error "
        f"{errors['network_median_ratio']:.1%}, 95 % within {errors['network_p95_ratio']:.0%}; "
        f"single units {errors['unit_median_ratio']:.0%} and {errors['unit_p95_ratio']:.0%}",
        "with the papers' features instead: median "
        f"{papers.errors['network_median_ratio']:.0%}, 95 % within "
        f"{papers.errors['network_p95_ratio']:.0%}",
    ]
    if saved is not None:
        lines.append(
            f"{saved}: models of {len(model.regression.models)} kinds of layers\n"
            f"next: isthmus plan BUNDLE --device-model {saved}"
        )
    out.print("\n".join(lines), markup=False, soft_wrap=True)

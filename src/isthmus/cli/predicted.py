"""``isthmus plan --device-model``: a table for an absent device. It loads, calls and prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from isthmus.cli.progress import progress_bars

if TYPE_CHECKING:
    from rich.console import Console

    from isthmus.loading.bundle import Bundle
    from isthmus.profiling.predicted_table import PredictedTable

__all__ = ["predicted_record", "predicted_table", "print_predicted"]


def predicted_table(
    opened: Bundle, device: str | None, server: str | None, *, is_loaded: bool
) -> PredictedTable | None:
    """Return the table for an absent device; none if no device is named.

    Raises:
        BadParameter: If a model of the server is named alone.
        IsthmusError: If a model or a network cannot be read.
    """
    from isthmus.loading.onnx_file import load_graph
    from isthmus.profiling.predicted_table import predict_table
    from isthmus.profiling.site_model_file import load_site_model

    if device is None:
        if server is not None or not is_loaded:
            raise typer.BadParameter("--server-model and --with-loading go with --device-model")
        return None
    here = load_site_model(device)
    there = load_site_model(server) if server is not None else None
    graphs = {}
    with progress_bars() as progress:
        progress.begin("networks", len(opened.variants))
        for name in opened.variants:
            graphs[name] = load_graph(opened.head_path(name, ""), name=name)
            progress.advance(name)
    return predict_table(opened, graphs, here, server=there, is_loaded=is_loaded)


def print_predicted(out: Console, predicted: PredictedTable) -> None:
    """Say whose figures these are before any of them."""
    server = f"of {predicted.server} (predicted)" if predicted.server else "as profiled"
    out.print(
        f"[bold yellow]predicted[/bold yellow], not measured: times of the device "
        f"{escape(predicted.device)}; the server {escape(server)}",
        soft_wrap=True,
    )
    for warning in predicted.warnings:
        out.print(f"  {escape(warning)}", soft_wrap=True)


def predicted_record(record: Mapping[str, Any], predicted: PredictedTable) -> dict[str, Any]:
    """Return what ``--json`` writes, every plan marked as predicted."""
    marked = {**record, "plan": {**record["plan"], "status": "predicted"}}
    marked["runners_up"] = [{**other, "status": "predicted"} for other in record["runners_up"]]
    marked["predicted"] = {
        "device": predicted.device,
        "server": predicted.server or "as profiled",
        "warnings": list(predicted.warnings),
    }
    return marked

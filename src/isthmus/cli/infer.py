"""``isthmus infer``: photographs in, answers out. It parses, calls and prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.rules import bundle_for, takes_rules
from isthmus.cli.units import checked_server, milliseconds
from isthmus.errors import ImageError
from isthmus.types.plan import Rules

if TYPE_CHECKING:
    from isthmus.device.client import Device
    from isthmus.types.outcome import Outcome

__all__ = ["command"]


@takes_rules
def command(
    *,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A profiled bundle.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="PHOTOGRAPH", help="JPEG, PNG, WebP and others.")
    ],
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=checked_server,
            help="The edge server, e.g. http://edge:8000; without it all runs here.",
        ),
    ] = None,
    rules: Rules,
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="Threads of one inference here.")
    ] = 1,
    json_target: JsonTarget = None,
) -> None:
    """Classify photographs, each by the plan that suits it now.

    Example: isthmus infer app.isthmus photo.jpg --server http://edge:8000
    --deadline 80ms
    """
    from isthmus.device.client import Device

    if server is None and rules.mode == "only_edge":
        raise typer.BadParameter("only_edge needs a --server", param_hint="--mode")
    opened = bundle_for(rules, bundle)
    out = console(stderr=json_target == "-")
    records = []
    with Device(opened, server=server, rules=rules, threads=threads) as device:
        if server is not None and not device.is_server_available:
            out.print(f"{escape(server)} does not answer: everything runs here", style="yellow")
        for what in (*device.disagreements, *device.departures):
            out.print(f"warning: {what}", style="yellow", markup=False, soft_wrap=True)
        if not (device.decodes_alike or rules.allow_other_pixels):
            out.print(
                "photographs are not sent to be decoded there; --allow-other-pixels sends them",
                style="yellow",
                soft_wrap=True,
            )
        for path in images:
            try:
                outcome = device.infer(path.read_bytes())
            except ImageError as error:
                raise ImageError(f"{path}: {error}") from error
            record = _record(path, outcome, device)
            records.append(record)
            out.print(_line(record), soft_wrap=True)
    if json_target is not None:
        write_json({"outcomes": records}, json_target)


def _record(path: Path, outcome: Outcome, device: Device) -> dict[str, Any]:
    import numpy as np

    answer = next(iter(outcome.outputs.values())).ravel().astype(float)
    is_distribution = answer.min() >= 0 and abs(answer.sum() - 1) < 1e-3
    weights = answer if is_distribution else np.exp(answer - answer.max())
    top = int(np.argmax(answer))
    labels = device.labels(outcome.plan.row.variant)
    return {
        "image": str(path),
        "class": top,
        "label": labels[top] if top < len(labels) else str(top),
        "probability": float(weights[top] / weights.sum()),
        "source": outcome.source,
        "plan": outcome.plan.row.label,
        "replaced": _replaced(outcome),
        "predicted_s": outcome.plan.latency_s,
        "total_s": outcome.timeline.total_s,
        "timeline_s": {
            name.removesuffix("_s"): seconds for name, seconds in asdict(outcome.timeline).items()
        },
        "sent_bytes": outcome.sent_bytes,
        "deadline_met": outcome.is_deadline_met,
        "error": outcome.error,
    }


def _replaced(outcome: Outcome) -> list[dict[str, str]]:
    because = ["its message came out too large"] * len(outcome.replaced)
    if outcome.source == "fallback":
        because[-1:] = ["it failed"]
    return [
        {"plan": plan.row.label, "because": why}
        for plan, why in zip(outcome.replaced, because, strict=True)
    ]


def _line(record: dict[str, Any]) -> str:
    stages = ", ".join(
        f"{name.replace('_', ' ')} {milliseconds(seconds)}"
        for name, seconds in record["timeline_s"].items()
        if seconds >= 5e-5
    )
    late = "" if record["deadline_met"] in (None, True) else " [red]late[/red]"
    why = f"\n    the server failed: {escape(record['error'])}" if record["error"] else ""
    before = "".join(
        f"\n    decided before: {escape(one['plan'])}, but {one['because']}"
        for one in record["replaced"]
    )
    return (
        f"[bold]{escape(Path(record['image']).name)}[/bold]: "
        f"[bold]{escape(record['label'])}[/bold] "
        f"{record['probability']:.2f}  {milliseconds(record['total_s'])}"
        f" (predicted {milliseconds(record['predicted_s'])}){late}\n"
        f"    {record['source']}: {escape(record['plan'])}, {record['sent_bytes']} bytes sent"
        f"{before}\n    [dim]{stages}[/dim]{why}"
    )

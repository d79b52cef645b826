"""``isthmus zoo``: the trained networks of the isthmus-zoo distribution, listed or written out.

It parses, calls and prints; the networks and their origins are isthmus-zoo's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from isthmus.cli.output import console, write_json
from isthmus.errors import RepositoryError

__all__ = ["command", "zoo_package"]

command = typer.Typer(
    help="List the trained networks of isthmus-zoo, or write them into a folder.",
    no_args_is_help=True,
)


@command.command("list")
def list_networks(
    json_target: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the list as JSON; - prints."),
    ] = None,
) -> None:
    """List the networks with their sizes and accuracies.

    Example: isthmus zoo list
    """
    from isthmus.loading.onnx_file import load_variant

    zoo = zoo_package()
    records = []
    for name in zoo.model_names():
        path = zoo.model_path(name)
        variant = load_variant(path, name=name)
        records.append(
            {
                "name": name,
                "path": str(path),
                "size_bytes": path.stat().st_size,
                "task": variant.task,
                "input_px": variant.pipeline.crop_px if variant.pipeline else None,
                "metric": variant.accuracy.metric if variant.accuracy else None,
                "accuracy": variant.accuracy.ratio if variant.accuracy else None,
                "status": variant.accuracy.status if variant.accuracy else None,
                "source": variant.accuracy.source if variant.accuracy else None,
            }
        )
    write_json({"models": records}, json_target)
    if json_target == "-":
        return
    from rich.table import Table

    table = Table("network", "file", "input", "accuracy", "says who", box=None, pad_edge=False)
    for record in records:
        side = record["input_px"]
        table.add_row(
            record["name"],
            f"{record['size_bytes'] / 1e6:.1f} MB",
            f"{side[1]} x {side[0]}" if side else "",
            f"{record['accuracy']:.1%}" if record["accuracy"] is not None else "",
            f"{record['status']}: {record['source']}" if record["status"] else "",
        )
    console().print(table)


@command.command("export")
def export(
    directory: Annotated[Path, typer.Argument(help="The repository to write, e.g. models/.")],
    names: Annotated[list[str] | None, typer.Argument(help="Networks; default all.")] = None,
) -> None:
    """Write networks into a model repository, for `isthmus serve` and `isthmus build`.

    Each becomes NAME/1/model.onnx with its NAME/labels.txt; files of the same name are replaced.

    Example: isthmus zoo export models/
    """
    from isthmus.loading.onnx_file import load_variant

    zoo = zoo_package()
    known = zoo.model_names()
    for name in names or ():
        if name not in known:
            raise typer.BadParameter(
                f"no network {name!r}: there are {', '.join(known)}", param_hint="NAMES"
            )
    out = console()
    for name in names or known:
        source = zoo.model_path(name)
        labels = load_variant(source, name=name).labels
        _replace(directory / name / "1" / "model.onnx", source.read_bytes())
        if labels:
            _replace(directory / name / "labels.txt", ("\n".join(labels) + "\n").encode())
        out.print(f"{directory / name / '1' / 'model.onnx'}", highlight=False, soft_wrap=True)
    out.print(f"next: isthmus serve {directory}, and isthmus build {directory} -o app.isthmus")


def zoo_package() -> ModuleType:
    """Return the zoo.

    Raises:
        RepositoryError: If it is not installed.
    """
    try:
        import isthmus_zoo
    except ModuleNotFoundError as error:
        raise RepositoryError(
            "the networks are a distribution of their own, isthmus-zoo, which is not installed: "
            "in a checkout of Isthmus, pip install ./zoo"
        ) from error
    found: ModuleType = isthmus_zoo
    return found


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as scratch:
        written = Path(scratch) / path.name
        written.write_bytes(data)
        written.replace(path)

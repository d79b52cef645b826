"""``isthmus zoo``: the trained networks of the isthmus-zoo distribution, listed or written out.

It parses, calls and prints; the networks and their origins are isthmus-zoo's.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.rows import print_rows
from isthmus.errors import RepositoryError
from isthmus.loading.files import new_files

__all__ = ["command", "zoo_package"]

_IMAGENET = "imagenet-1k"

Task = Annotated[
    str, typer.Option(metavar="TASK", help="What the networks answer: see `isthmus zoo list`.")
]

command = typer.Typer(
    help="List the trained networks of isthmus-zoo, or write them into a folder.",
    no_args_is_help=True,
)


@command.command("list")
def list_networks(
    json_target: JsonTarget = None,
) -> None:
    """List the networks with their sizes and accuracies.

    Example: isthmus zoo list
    """
    from isthmus.loading.onnx_file import load_variant

    zoo = zoo_package()
    records = []
    for name in (name for task in zoo.tasks() for name in zoo.model_names(task)):
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
    out = console()
    rows = []
    for record in records:
        side = record["input_px"]
        rows.append(
            (
                record["name"],
                record["task"],
                f"{record['size_bytes'] / 1e6:.1f} MB",
                f"{side[1]} x {side[0]}" if side else "",
                f"{record['accuracy']:.1%}" if record["accuracy"] is not None else "",
            )
        )
    print_rows(out, ("network", "task", "file", "input", "accuracy"), rows)
    out.print("\nAccuracy:")
    for record in records:
        if record["status"]:
            told = f"  {record['name']}: {record['status']}, {record['source']}"
            out.print(told, markup=False, soft_wrap=not out.is_terminal)


@command.command("export")
def export(
    directory: Annotated[Path, typer.Argument(metavar="FOLDER", help="The repository to write.")],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Networks; default all of the task.")
    ] = None,
    task: Task = _IMAGENET,
) -> None:
    """Write networks into a model repository, for `isthmus serve` and `isthmus build`.

    Each becomes NAME/1/model.onnx with its NAME/labels.txt; files of the same name are replaced.
    A bundle is for one task, so that by default those for ImageNet are written.

    Example: isthmus zoo export models/
    """
    from isthmus.loading.onnx_file import load_variant

    zoo = zoo_package()
    _check_task(task)
    known = [name for one in zoo.tasks() for name in zoo.model_names(one)]
    for name in names or ():
        if name not in known:
            raise typer.BadParameter(
                f"no network {name!r}: there are {', '.join(known)}", param_hint="NAMES"
            )
    out = console()
    for name in names or zoo.model_names(task):
        source = zoo.model_path(name)
        labels = load_variant(source, name=name).labels
        parts = {directory / name / "1" / "model.onnx": source.read_bytes()}
        if labels:
            parts[directory / name / "labels.txt"] = ("\n".join(labels) + "\n").encode()
        with new_files(*parts, parents=True) as files:
            for file, data in zip(files, parts.values(), strict=True):
                file.write(data)
        out.print(f"{directory / name / '1' / 'model.onnx'}", highlight=False, soft_wrap=True)
    out.print(f"next: isthmus serve {directory}, and isthmus build {directory} -o app.isthmus")


@command.command("photographs")
def list_photographs(task: Task = _IMAGENET) -> None:
    """Print the paths of the photographs, one a line: their names tell what they show.

    Example: isthmus infer app.isthmus $(isthmus zoo photographs | head -3)
    """
    _check_task(task)
    for path in zoo_package().photograph_paths("request", task=task):
        typer.echo(path)


def _check_task(task: str) -> None:
    known = zoo_package().tasks()
    if task not in known:
        raise typer.BadParameter(
            f"no networks for {task!r}: there are {', '.join(known)}", param_hint="--task"
        )


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

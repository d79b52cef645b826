"""How commands show tensors, to people and as JSON, and take their shapes. It reads no files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from isthmus.types.graph import TensorSpec

__all__ = [
    "ShapesOption",
    "shape_text",
    "shapes_from_texts",
    "size_text",
    "tensor_record",
    "tensor_text",
]


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as people read it.

    Examples:
        >>> shape_text((1, 3, 224, 224)), shape_text(())
        ('1x3x224x224', 'scalar')
    """
    return "x".join(map(str, shape)) if shape else "scalar"


ShapesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=1,3,480,480",
        help="Shape of an input that the file leaves open; may be repeated.",
    ),
]


def shapes_from_texts(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes by name that texts such as ``x=1,3,480,480`` give.

    Raises:
        typer.BadParameter: If one is none, or gives a name a second shape.

    Examples:
        >>> shapes_from_texts(["x=1,3,480,480", "scale="])
        {'x': (1, 3, 480, 480), 'scale': ()}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(",")) if sizes.strip() else ()
        except ValueError:
            equals = ""
        if not (name and equals):
            raise typer.BadParameter(
                f"{text!r} is no shape of an input: give its name and its sizes, "
                f"as in x=1,3,480,480",
                param_hint="--shape",
            )
        if name in shapes:
            raise typer.BadParameter(f"{name!r} is given two shapes", param_hint="--shape")
        shapes[name] = shape
    return shapes


def size_text(size_bytes: int) -> str:
    """Return bytes as people read them, in decimal units.

    Examples:
        >>> size_text(602112), size_text(4000000), size_text(12)
        ('602.1 KB', '4.00 MB', '12 B')
    """
    if size_bytes >= 1e6:
        return f"{size_bytes / 1e6:.2f} MB"
    return f"{size_bytes / 1e3:.1f} KB" if size_bytes >= 1e3 else f"{size_bytes} B"


def tensor_text(spec: TensorSpec) -> str:
    """Return a tensor's name, type, shape and size in one line."""
    return f"{spec.name}  {spec.dtype} {shape_text(spec.shape)}  {size_text(spec.size_bytes)}"


def tensor_record(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor's spec as JSON values, its size in bytes."""
    return {
        "name": spec.name,
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "size_bytes": spec.size_bytes,
    }

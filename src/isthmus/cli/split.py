"""``isthmus split``: a network as two ONNX files. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.tensors import (
    ShapesOption,
    shapes_from_texts,
    size_text,
    tensor_record,
    tensor_text,
)

__all__ = ["command"]


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The ONNX file.")],
    tensors: Annotated[
        list[str],
        typer.Option("--at", metavar="TENSOR", help="A tensor that crosses; may be repeated."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the two parts.")
    ],
    shape_texts: ShapesOption = None,
    as_repository: Annotated[
        bool,
        typer.Option(
            "--repository",
            help="Write the tail as NAME/1/model.onnx, as Triton and other servers want it.",
        ),
    ] = False,
    json_target: JsonTarget = None,
) -> None:
    """Cut a network into a head for the device and a tail for the server.

    Writes head.onnx and tail.onnx, plain ONNX files that any runtime loads. The head computes the
    named tensors, the tail takes them and computes the rest. `isthmus inspect` lists the tensors;
    a cut at the network's own input has no head. Shapes that the file leaves open are given with
    --shape; both parts then have them fixed, and another shape is another cut with other parts.

    Example: isthmus split squeezenet-1.1.onnx --at /maxpool5/MaxPool_output_0 -o parts/
    """
    from isthmus.loading.onnx_file import load_graph, read_model
    from isthmus.loading.repository import place_of
    from isthmus.loading.saving import check_model, save_models
    from isthmus.loading.split import split_model
    from isthmus.types.unit import tail_name

    shapes = shapes_from_texts(shape_texts or ())
    graph = load_graph(file, shapes=shapes)
    split = split_model(read_model(file, shapes=shapes), graph, tensors)
    name = tail_name(graph.name, split.cut.id)
    check_model(split.tail, called="tail")
    tail_path = place_of(output, name) if as_repository else output / "tail.onnx"
    head_path = None
    parts = {tail_path: split.tail}
    if split.head is not None:
        check_model(split.head, called="head")
        head_path = output / "head.onnx"
        parts[head_path] = split.head
    save_models(parts)
    crossing = [graph.tensors[tensor] for tensor in split.cut.tensors]
    crossing_bytes = sum(spec.size_bytes for spec in crossing)
    record = {
        "network": graph.name,
        "graph_sha256": graph.sha256,
        "fixed_shapes": {name: list(shape) for name, shape in graph.fixed_shapes.items()},
        "cut_id": split.cut.id,
        "tail_name": name,
        "crossing": [tensor_record(spec) for spec in crossing],
        "crossing_bytes": crossing_bytes,
        "head": None if head_path is None else str(head_path),
        "tail": str(tail_path),
    }
    write_json(record, json_target)
    out = console(stderr=json_target == "-")

    def say(text: str) -> None:
        out.print(text, markup=False, soft_wrap=True)

    say(f"cut {split.cut.id} of {graph.name}: {size_text(crossing_bytes)} cross as raw tensors")
    for spec in crossing:
        say(f"  {tensor_text(spec)}")
    say(f"head  {head_path or 'none: the cut is at the input'}")
    say(f"tail  {tail_path}")

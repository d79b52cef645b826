"""``isthmus inspect``: what a network or a bundle is made of. It parses, calls and prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.output import JsonTarget, console, write_json
from isthmus.cli.rows import print_rows
from isthmus.cli.tensors import (
    ShapesOption,
    shape_text,
    shapes_from_texts,
    size_text,
    tensor_record,
    tensor_text,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from isthmus.types.graph import ModelGraph
    from isthmus.types.variant import Variant

__all__ = ["command"]

_WIDE = 150  # columns


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file, or a bundle.")],
    shape_texts: ShapesOption = None,
    json_target: JsonTarget = None,
) -> None:
    """Show what a network is made of and where it may be cut.

    Lists every layer with the size of what it puts out and the work it takes. A layer marked
    "cut" is a cut vertex: every path from input to output passes it, so sending its one output
    tensor is enough to continue elsewhere. Constants and weights count to the layers using them.
    Shapes that the file leaves open are given with --shape; sizes and work are for these.

    Of a bundle it shows the plans, how it was measured, and what loading the parts takes.

    Example: isthmus inspect mobilenet-v2.onnx

    Example: isthmus inspect app.isthmus
    """
    if (file / "manifest.json").is_file():
        from isthmus.cli.inspect_bundle import inspect_bundle

        inspect_bundle(file, json_target)
        return
    from isthmus.loading.metadata import licence_of, variant_from_metadata
    from isthmus.loading.onnx_file import load_graph, load_metadata
    from isthmus.planning.partition import cut_vertices

    graph = load_graph(file, shapes=shapes_from_texts(shape_texts or ()))
    metadata = load_metadata(file)
    variant = variant_from_metadata(metadata, name=graph.name, sha256=graph.sha256)
    licence = licence_of(metadata)
    cuts = cut_vertices(graph)
    write_json(_record(graph, variant, licence, cuts), json_target)
    if json_target != "-":
        out = console()
        out.print(_summary(graph, variant, licence, cuts))
        _print_layers(out, graph, cuts)


def _summary(graph: ModelGraph, variant: Variant, licence: str, cuts: tuple[int, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    facts = [("network", graph.name), ("sha256", graph.sha256)]
    facts += [("input", tensor_text(graph.tensors[name])) for name in graph.inputs]
    facts += [("output", tensor_text(graph.tensors[name])) for name in graph.outputs]
    if variant.task:
        facts.append(("task", variant.task))
    if variant.accuracy is not None:
        a = variant.accuracy
        source = f", {a.source}" if a.source else ""
        facts.append(("accuracy", f"{a.ratio:.2%} {a.metric} ({a.status}{source})"))
    if licence:
        facts.append(("licence", licence))
    facts += [
        ("layers", str(len(graph.layers))),
        ("work", f"{graph.flops / 1e9:.3f} GFLOPs an inference"),
        ("weights", f"{graph.weight_bytes / 1e6:.2f} MB as used"),
        ("cut vertices", _cuts_text(graph, cuts)),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts:
        table.add_row(label, Text(text))
    return table


def _cuts_text(graph: ModelGraph, cuts: tuple[int, ...]) -> str:
    count = len(graph.layers)
    if set(cuts) - {count - 1}:  # behind the last layer nothing is left to cut off
        return f"{len(cuts)} of {count} layers, marked below"
    if count == 1:
        return "the only layer: there is nothing inside to cut"
    found = "only the last layer" if cuts else f"none of {count} layers"
    return (
        f"{found}: no single tensor inside the network cuts it in two, several together do "
        f"(isthmus split --at A --at B)"
    )


def _print_layers(out: Console, graph: ModelGraph, cuts: tuple[int, ...]) -> None:
    """Print a row a layer; where it is narrow, under its outputs' names, which stay whole."""
    marked = frozenset(cuts)
    if out.width >= _WIDE:
        out.print(_layers_table(graph, marked))
        return
    rows = []
    for i, layer in enumerate(graph.layers):
        work = f"{layer.flops / 1e6:.2f}" if layer.flops else ""
        told = (str(i), layer.op_type, work, "cut" if i in marked else "")
        for name in layer.outputs:
            spec = graph.tensors[name]
            index, operator, work, mark = told
            shape, size = shape_text(spec.shape), size_text(spec.size_bytes)
            rows.append((name, index, operator, shape, size, work, mark))
            told = ("", "", "", "")
    print_rows(out, ("output", "#", "operator", "shape", "size", "MFLOPs", ""), rows)


def _layers_table(graph: ModelGraph, marked: frozenset[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    for name in ("layer", "operator", "output", "shape"):
        table.add_column(name, overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("MFLOPs", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for i, layer in enumerate(graph.layers):
        specs = [graph.tensors[name] for name in layer.outputs]
        table.add_row(
            str(i),
            Text(layer.name),
            Text(layer.op_type),
            Text("\n".join(layer.outputs)),
            "\n".join(shape_text(spec.shape) for spec in specs),
            "\n".join(size_text(spec.size_bytes) for spec in specs),
            f"{layer.flops / 1e6:.2f}" if layer.flops else "",
            "cut" if i in marked else "",
            style="green" if i in marked else "",
        )
    return table


def _record(
    graph: ModelGraph, variant: Variant, licence: str, cuts: tuple[int, ...]
) -> dict[str, Any]:
    marked = frozenset(cuts)
    accuracy, pipeline = variant.accuracy, variant.pipeline
    return {
        "name": graph.name,
        "sha256": graph.sha256,
        "inputs": [tensor_record(graph.tensors[name]) for name in graph.inputs],
        "fixed_shapes": {name: list(shape) for name, shape in graph.fixed_shapes.items()},
        "outputs": [tensor_record(graph.tensors[name]) for name in graph.outputs],
        "task": variant.task or None,
        "accuracy": None if accuracy is None else vars(accuracy),
        "licence": licence or None,
        "input_pipeline": None if pipeline is None else vars(pipeline),
        "labels": len(variant.labels),
        "flops": graph.flops,
        "weight_bytes": graph.weight_bytes,
        "cut_vertices": list(cuts),
        "layers": [
            {
                "index": i,
                "name": layer.name,
                "op_type": layer.op_type,
                "inputs": list(layer.inputs),
                "outputs": [tensor_record(graph.tensors[name]) for name in layer.outputs],
                "flops": layer.flops,
                "weight_bytes": layer.weight_bytes,
                "is_cut_vertex": i in marked,
            }
            for i, layer in enumerate(graph.layers)
        ],
    }

"""Heads and tails: a network cut in two ONNX models. It chooses no cuts and runs nothing.

What each side needs of the stored tensors and of the nodes that compute constants goes along
with it, in both if both need it, so that either part stands alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from isthmus.errors import CutError, ModelError
from isthmus.loading.metadata import head_metadata, metadata_of, tail_metadata
from isthmus.loading.nodes import needed_nodes, reads
from isthmus.loading.normal_form import NormalForm, normal_form
from isthmus.loading.shape_inference import declared_type
from isthmus.loading.stored_tensors import constant_value
from isthmus.types.cut import Cut, device_layers
from isthmus.types.graph import ModelGraph

__all__ = ["Split", "exposed_model", "split_model"]

_LEAST_IR_VERSION = 4  # before it, stored tensors had to be listed as inputs too
_GREATEST_IR_VERSION = 10


@dataclass(frozen=True)
class Split:
    """A network cut in two.

    Attributes:
        cut: Where.
        head: The device side: its inputs are those of the network's inputs that it needs, its
            outputs the frontier tensors, sorted, and then the network's outputs that it computes
            on the way. ``None`` if the cut is at the network's inputs.
        tail: The server side: its inputs are the frontier tensors, sorted, its outputs the
            network's other outputs.
    """

    cut: Cut
    head: onnx.ModelProto | None
    tail: onnx.ModelProto


def split_model(model: onnx.ModelProto, graph: ModelGraph, tensors: Iterable[str]) -> Split:
    """Cut a network in two at some of its tensors.

    Both parts keep operator sets, functions and metadata that still holds, and get
    ``isthmus.graph_sha256`` and ``isthmus.cut_id``. Their inputs and outputs have static shapes.

    Args:
        model: The whole model, its weights read; it is not changed.
        graph: The same, as ``graph_from_model`` returns it; shapes that it was given for inputs
            are those of the parts.
        tensors: Names of the frontier tensors, in any order.

    Returns:
        The parts.

    Raises:
        CutError: If the tensors do not cut the network, or leave nothing for the server.
        ModelError: If ``model`` is not one that ``graph_from_model`` accepts.
    """
    cut = Cut.of(graph.sha256, tensors, graph.fixed_shapes)
    for name in cut.tensors:
        _check_known(graph, name)
    device = device_layers(graph, cut.tensors)
    here = {name for i in device for name in graph.layers[i].outputs} | set(cut.tensors)
    answered = [name for name in graph.outputs if name in here and name not in cut.tensors]
    left = [name for name in graph.outputs if name not in here]
    if not left:
        raise CutError(
            f"{list(cut.tensors)} leave nothing of {graph.name} for the server; "
            f"run the whole network on the device instead"
        )
    try:
        form = normal_form(model, graph.fixed_shapes)
        metadata = metadata_of(model)
        stamp = {"isthmus.graph_sha256": graph.sha256, "isthmus.cut_id": cut.id}
        head = None
        if device:
            head = _part(model, form, graph, None, [*cut.tensors, *answered])
            onnx.helper.set_model_props(head, head_metadata(metadata) | stamp)
        tail = _part(model, form, graph, cut.tensors, left)
        kept = tail_metadata(metadata, takes_inputs=not device)
        onnx.helper.set_model_props(tail, kept | stamp)
    except UnicodeDecodeError as error:  # protobuf checks text only when it is read
        raise ModelError(f"{graph.name}: a name in the file is not text; it is damaged") from error
    return Split(cut, head, tail)


def exposed_model(
    model: onnx.ModelProto, graph: ModelGraph, tensors: Iterable[str]
) -> onnx.ModelProto:
    """Return the whole network with some of its tensors as further outputs.

    One run of it gives what the heads of many cuts would compute.

    Args:
        model: The whole model, its weights read; it is not changed.
        graph: The same, as ``graph_from_model`` returns it.
        tensors: Names of the tensors; those that are outputs already stay where they are.

    Raises:
        CutError: If the network has no such tensor.
        ModelError: If ``model`` is not one that ``graph_from_model`` accepts.
    """
    more = sorted(set(tensors) - set(graph.outputs))
    for name in more:
        _check_known(graph, name)
    form = normal_form(model, graph.fixed_shapes)
    return _part(model, form, graph, None, [*graph.outputs, *more])


def _part(
    model: onnx.ModelProto,
    form: NormalForm,
    graph: ModelGraph,
    inputs: Sequence[str] | None,
    outputs: Sequence[str],
) -> onnx.ModelProto:
    """Return the part of a model that computes ``outputs`` from ``inputs``.

    ``inputs`` of ``None`` stands for those of the graph's inputs that are needed.
    """
    nodes = needed_nodes([*form.constant_nodes, *form.layers], outputs, given=inputs or ())
    used = {name for node in nodes for name in reads(node)} | set(outputs)
    if inputs is None:
        inputs = [name for name in form.inputs if name in used]
    part = onnx.ModelProto()
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(part, field, getattr(model, field))
    part.ir_version = min(max(model.ir_version, _LEAST_IR_VERSION), _GREATEST_IR_VERSION)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = model.graph.name or "graph"
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    for node in nodes:
        value = constant_value(node)
        if value is None or node.output[0] in outputs:
            part.graph.node.append(node)
        else:  # old operator sets have no nodes for whole numbers: see ``shape_inference``
            part.graph.initializer.append(value)
            part.graph.initializer[-1].name = node.output[0]
    part.graph.sparse_initializer.extend(
        t for t in model.graph.sparse_initializer if t.values.name in used
    )
    part.graph.input.extend(_declared(graph, name) for name in inputs)
    part.graph.output.extend(_declared(graph, name) for name in outputs)
    written = {name for node in nodes for name in node.output} - {*inputs, *outputs}
    part.graph.value_info.extend(
        value
        for value in model.graph.value_info
        if value.name in written and declared_type(value).static_shape is not None
    )
    return part


def _check_known(graph: ModelGraph, tensor: str) -> None:
    """Raise a ``CutError`` that suggests names if ``graph`` has no such tensor."""
    if tensor in graph.tensors:
        return
    near = [name for layer in graph.layers if layer.name == tensor for name in layer.outputs]
    near = near or difflib.get_close_matches(tensor, graph.tensors, n=3)
    near = near or [name for name in graph.tensors if tensor.lower() in name.lower()][:3]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "no name is like it."
    raise CutError(f"{graph.name} has no tensor {tensor!r}; {hint} `isthmus inspect` lists them")


def _declared(graph: ModelGraph, name: str) -> onnx.ValueInfoProto:
    """Return the declaration of a tensor with its static shape."""
    spec = graph.tensors[name]
    elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return onnx.helper.make_tensor_value_info(name, elem_type, spec.shape)

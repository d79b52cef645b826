"""ONNX files to nouns: ``ModelGraph`` and ``Variant``. It runs no network and changes no file.

Every failure is a ``ModelError`` that names the file; no exception of onnx or protobuf escapes.
The digest is of the ``.onnx`` file itself; weights stored beside it are not part of it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from isthmus.errors import ModelError
from isthmus.loading.flops import flops_of
from isthmus.loading.metadata import metadata_of, variant_from_metadata
from isthmus.loading.nodes import described, reads, writes
from isthmus.loading.normal_form import NormalForm, normal_form
from isthmus.loading.shape_inference import SMALL_ELEMENTS
from isthmus.loading.stored_tensors import check_claims, load_external
from isthmus.types.graph import Layer, ModelGraph, TensorSpec
from isthmus.types.variant import Variant

__all__ = [
    "graph_from_model",
    "load_graph",
    "load_metadata",
    "load_variant",
    "model_name",
    "read_model",
]

_FILE_LIMIT_BYTES = 2**31 - 1  # protobuf's
_SHAPE_BYTES = 8 * SMALL_ELEMENTS  # stored values that may be shapes are smaller
_COUNTED_DOMAINS = ("", "ai.onnx", "com.microsoft")
_PLAIN = {
    onnx.AttributeProto.FLOAT: "f",
    onnx.AttributeProto.INT: "i",
    onnx.AttributeProto.STRING: "s",
    onnx.AttributeProto.FLOATS: "floats",
    onnx.AttributeProto.INTS: "ints",
}


def read_model(path: Path, *, shapes: Mapping[str, Sequence[int]] | None = None) -> onnx.ModelProto:
    """Read an ONNX file with all its weights, those stored beside it included.

    Args:
        path: The ONNX file.
        shapes: Shapes by input name, for inputs whose shape the file leaves open. The model is
            checked with them; it is returned as it is stored.

    Raises:
        ModelError: If the file is missing, truncated, no ONNX model or rejected by onnx's
            checker, if weights stored beside it are missing or too short, or if an input's shape
            is open or ``shapes`` do not fit.
    """
    with _naming(path):
        model, _ = _parse(path)
        load_external(model, path.parent)
        check_claims(model)
        normal_form(model, shapes)
        return model


def load_graph(
    path: Path, *, name: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> ModelGraph:
    """Load an ONNX file as a graph without weights.

    Args:
        path: The ONNX file.
        name: The network's name; by default as ``model_name`` says.
        shapes: Shapes by input name, for inputs whose shape the file leaves open.

    Raises:
        ModelError: As ``read_model`` and ``graph_from_model``.
    """
    with _naming(path):
        model, sha256 = _parse(path)
        load_external(model, path.parent, limit_bytes=_SHAPE_BYTES)
        check_claims(model)
        own_name = name or model_name(path)
        return graph_from_model(model, name=own_name, sha256=sha256, shapes=shapes)


def load_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file by key.

    Raises:
        ModelError: If the file cannot be read.
    """
    with _naming(path):
        return metadata_of(_parse(path)[0])


def load_variant(path: Path, *, name: str | None = None) -> Variant:
    """Return the variant that an ONNX file's ``isthmus.*`` metadata describes.

    Args:
        path: The ONNX file.
        name: The variant's name; by default as ``model_name`` says.

    Raises:
        ModelError: If the file cannot be read or its metadata is malformed.
    """
    with _naming(path):
        model, sha256 = _parse(path)
        metadata = metadata_of(model)
        return variant_from_metadata(metadata, name=name or model_name(path), sha256=sha256)


def model_name(path: Path) -> str:
    """Return a network's name: the file's stem, or the folder's of ``<name>/<n>/model.onnx``.

    Examples:
        >>> model_name(Path("nets/lite0.onnx")), model_name(Path("models/lite0/1/model.onnx"))
        ('lite0', 'lite0')
    """
    if path.name == "model.onnx" and path.parent.name.isdecimal() and path.parent.parent.name:
        return path.parent.parent.name
    return path.stem


def graph_from_model(
    model: onnx.ModelProto,
    *,
    name: str,
    sha256: str,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> ModelGraph:
    """Return a model's graph: its needed nodes in topological order, constants absorbed.

    Initializers, ``Constant`` nodes and all that is computed from them alone become part of the
    layers that read them; a constant that several layers read counts in each. Outputs that
    nothing reads are left out. Nodes without a name get one from their operator and index.

    Args:
        model: The model; large weights may be still outside.
        name: The network's name.
        sha256: Hex digest of the ONNX file.
        shapes: Shapes by input name, for inputs whose shape the file leaves open.

    Raises:
        ModelError: If onnx rejects the graph, a tensor's shape is open or unknown, or ``shapes``
            do not fit.
    """
    form = normal_form(model, shapes)
    read = {tensor for node in form.layers for tensor in reads(node)} | set(form.outputs)
    tensors: dict[str, TensorSpec] = {
        tensor: form.spec(tensor, written_by="an input") for tensor in form.inputs
    }
    layers = []
    names = _unique_names(form.layers)
    own_functions = {(function.domain, function.name) for function in model.functions}
    for node, layer_name in zip(form.layers, names, strict=True):
        outputs = tuple(tensor for tensor in writes(node) if tensor in read)
        for tensor in outputs:
            tensors[tensor] = form.spec(tensor, written_by=f"output of {described(node)}")
        is_counted = (node.domain, node.op_type) not in own_functions
        layers.append(
            Layer(
                name=layer_name,
                op_type=node.op_type,
                inputs=tuple(tensor for tensor in reads(node) if tensor not in form.constants),
                outputs=outputs,
                flops=_flops(form, node) if is_counted else 0,
                weight_bytes=sum(form.size_bytes(t) for t in reads(node) if t in form.constants),
                **_window(form, node),
            )
        )
    fixed = {tensor: tensors[tensor].shape for tensor in form.fixed_inputs}
    return ModelGraph(name, sha256, form.inputs, form.outputs, tuple(layers), tensors, fixed)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in every ``ModelError`` of the block which file it is about."""
    try:
        yield
    except UnicodeDecodeError as error:  # protobuf checks text only when it is read
        raise ModelError(f"{path}: a name in it is not text; the file is damaged") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _parse(path: Path) -> tuple[onnx.ModelProto, str]:
    """Return the model as stored, and the file's digest."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > _FILE_LIMIT_BYTES:
            raise ModelError(
                f"{size_bytes} bytes are more than an ONNX file can have; "
                f"save it again with its weights as external data"
            )
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError("there is no such file; give the path of an ONNX file") from error
    except IsADirectoryError as error:
        raise ModelError("this is a folder; give the path of an ONNX file in it") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"the file cannot be read: {error}") from error
    if not data:
        raise ModelError("the file is empty; copy or export it again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelError("no ONNX file, or only a part of one; copy it again") from error
    if not (model.ir_version and model.opset_import and model.HasField("graph")):
        raise ModelError("no ONNX model: it has no graph or no operator set version")
    return model, hashlib.sha256(data).hexdigest()


def _unique_names(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    taken = {node.name for node in nodes}
    used: set[str] = set()
    names = []
    for i, node in enumerate(nodes):
        name = node.name or f"{node.op_type}_{i}"
        count = 1
        while name in used or (name in taken and name != node.name):
            count += 1
            name = f"{node.name or f'{node.op_type}_{i}'}_{count}"
        used.add(name)
        names.append(name)
    return names


def _flops(form: NormalForm, node: onnx.NodeProto) -> int:
    if node.domain not in _COUNTED_DOMAINS or not writes(node):
        return 0
    shapes = [form.types[t].static_shape if t in form.types else None for t in node.input]
    output = form.types.get(writes(node)[0])
    shape = output.static_shape if output is not None else None
    return 0 if shape is None else flops_of(node.op_type, shapes, shape, _attributes(node))


def _window(form: NormalForm, node: onnx.NodeProto) -> dict[str, Any]:
    """Return the layer's window: a convolution's may be told by its weights alone."""
    attributes = _attributes(node)
    kernel = tuple(attributes.get("kernel_shape", ()))
    if not kernel and node.op_type in ("Conv", "ConvTranspose", "FusedConv"):
        weights = form.types.get(node.input[1])
        kernel = (weights.static_shape or ())[2:] if weights is not None else ()
    if not kernel:
        return {}
    strides = tuple(attributes.get("strides", ())) or (1,) * len(kernel)
    return {"kernel": kernel, "strides": strides, "groups": int(attributes.get("group", 1))}


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    """Return a node's plain attributes as Python values."""
    values: dict[str, Any] = {}
    for attribute in node.attribute:
        field = _PLAIN.get(attribute.type)
        if field is not None:
            value = getattr(attribute, field)
            values[attribute.name] = value.decode(errors="replace") if field == "s" else value
    return values

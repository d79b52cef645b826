"""An ONNX graph in normal form: needed nodes only, in order, constants told apart from data.

Both the noun made of a file (``onnx_file``) and the extraction of heads and tails (``split``)
start from it. It changes no file and evaluates no operator but ``Shape`` and ``Size``, whose
results are known as soon as all shapes are static.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from isthmus.errors import ModelError
from isthmus.loading.nodes import (
    needed_nodes,
    reads,
    sorted_nodes,
    subgraphs,
    writers,
    writes,
)
from isthmus.loading.shape_inference import TensorType, infer_types, stored_types
from isthmus.loading.stored_tensors import bits_per_element
from isthmus.types.graph import TensorSpec

__all__ = ["NormalForm", "normal_form"]

_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
_STATIC_ADVICE = (
    "export the network with static shapes, or fix them with "
    "`python -m onnxruntime.tools.make_dynamic_shape_fixed`"
)


@dataclass(frozen=True)
class NormalForm:
    """A graph's needed nodes in topological order, and the types of their tensors.

    Attributes:
        inputs: Names of the graph's inputs; initializers are not among them.
        outputs: Names of the graph's outputs.
        constant_nodes: Nodes whose outputs are the same in every inference, in order.
        layers: All other nodes, in order.
        constants: Names of the stored tensors and of the constant nodes' outputs.
        types: Type of every tensor that shape inference knows.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constant_nodes: tuple[onnx.NodeProto, ...] = field(repr=False)
    layers: tuple[onnx.NodeProto, ...] = field(repr=False)
    constants: frozenset[str] = field(repr=False)
    types: Mapping[str, TensorType] = field(repr=False)

    def static_type(self, name: str, *, written_by: str) -> tuple[int, tuple[int, ...]]:
        """Return a tensor's ONNX element type and its shape.

        Raises:
            ModelError: If either is not known; the message calls the tensor's origin
                ``written_by``.
        """
        found = self.types.get(name, TensorType(0, None))
        if found.static_shape is not None and found.elem_type:
            return found.elem_type, found.static_shape
        if found.dims is None or not found.elem_type:
            what = "cannot be inferred"
        else:
            at, size = next((i, s) for i, s in enumerate(found.dims) if not isinstance(s, int))
            what = f"is dynamic: dimension {at} is {repr(size) if size else 'not given'}"
        raise ModelError(f"the shape of {name!r} ({written_by}) {what}; {_STATIC_ADVICE}")

    def spec(self, name: str, *, written_by: str) -> TensorSpec:
        """Return the spec of a data tensor.

        Raises:
            ModelError: If its shape is not static, or NumPy alone has no such element type.
        """
        elem_type, shape = self.static_type(name, written_by=written_by)
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type))
        if dtype.kind not in "biufc":
            label = onnx.TensorProto.DataType.Name(elem_type)
            raise ModelError(
                f"tensor {name!r} ({written_by}) has element type {label}, which cannot cross a "
                f"link; export the network with float32 or float16 tensors"
            )
        return TensorSpec(name, dtype.name, shape)

    def size_bytes(self, name: str) -> int:
        """Return the bytes of a constant as its consumers see it.

        Raises:
            ModelError: If its shape is not known.
        """
        elem_type, shape = self.static_type(name, written_by="a constant")
        return -(-math.prod(shape) * bits_per_element(elem_type) // 8)


def normal_form(model: onnx.ModelProto) -> NormalForm:
    """Return the normal form of a model's graph.

    A node is constant if it draws no random numbers, everything it reads is constant and it
    writes no output of the graph. ``Shape`` and ``Size`` of tensors of static shape count as
    stored constants.

    Args:
        model: Any ONNX model; it is not changed.

    Raises:
        ModelError: If the graph has no outputs, a stored tensor as an output, an input whose
            shape is dynamic, nodes that depend on each other in a circle, or if onnx rejects it.
    """
    graph = model.graph
    stored = stored_types(graph)
    inputs = [value for value in graph.input if value.name not in stored]
    outputs = tuple(value.name for value in graph.output)
    if not outputs:
        raise ModelError("the network has no outputs; is this a whole ONNX model?")
    kept = next((name for name in outputs if name in stored), None)
    if kept is not None:
        raise ModelError(f"output {kept!r} is a stored constant; remove it from the outputs")
    known = frozenset(stored) | {value.name for value in inputs}
    missing = next((n for n in outputs if n not in known and n not in writers(graph.node)), None)
    if missing is not None:
        raise ModelError(f"nothing in the file writes the output {missing!r}; is it damaged?")
    nodes = sorted_nodes(needed_nodes(graph.node, outputs), known)
    types = infer_types(model, nodes, inputs)
    nodes = needed_nodes([_fold_shape(node, types) for node in nodes], outputs)
    constant_nodes, layers = _divide(nodes, stored, outputs)
    form = NormalForm(
        inputs=tuple(value.name for value in inputs),
        outputs=outputs,
        constant_nodes=tuple(constant_nodes),
        layers=tuple(layers),
        constants=frozenset(stored) | {name for node in constant_nodes for name in writes(node)},
        types=types,
    )
    for name in form.inputs:
        form.spec(name, written_by="an input")
    return form


def _divide(
    nodes: Sequence[onnx.NodeProto], stored: Mapping[str, object], outputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Return the constant nodes, and the others."""
    constants, constant_nodes, layers = set(stored), [], []
    for node in nodes:
        is_constant = (
            constants.issuperset(reads(node))
            and not _is_random(node)
            and not set(writes(node)).intersection(outputs)
        )
        if is_constant:
            constants.update(writes(node))
            constant_nodes.append(node)
        else:
            layers.append(node)
    return constant_nodes, layers


def _fold_shape(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> onnx.NodeProto:
    """Return a ``Constant`` node in place of ``Shape`` or ``Size`` of a static tensor."""
    if node.op_type not in ("Shape", "Size") or node.domain not in ("", "ai.onnx"):
        return node
    shape = types.get(node.input[0], TensorType(0, None)).static_shape
    if shape is None:
        return node
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    part = shape[bounds.get("start", 0) : bounds.get("end", len(shape))]
    value = math.prod(shape) if node.op_type == "Size" else part
    tensor = onnx.numpy_helper.from_array(np.asarray(value, dtype=np.int64))
    return onnx.helper.make_node("Constant", [], node.output, name=node.name, value=tensor)


def _is_random(node: onnx.NodeProto) -> bool:
    return node.op_type in _RANDOM or any(
        _is_random(inner) for graph in subgraphs(node) for inner in graph.node
    )

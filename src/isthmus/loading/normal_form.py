"""An ONNX graph in normal form: needed nodes only, in order, constants told apart from data.

Both the noun made of a file (``onnx_file``) and the extraction of heads and tails (``split``)
start from it. It changes no file, and evaluates nothing but what a network computes about its
own shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from isthmus.errors import ModelError
from isthmus.loading.input_shapes import fixed_inputs, open_shapes
from isthmus.loading.nodes import (
    needed_nodes,
    reads,
    sorted_nodes,
    subgraphs,
    writers,
    writes,
)
from isthmus.loading.shape_arithmetic import fold_arithmetic, fold_shapes
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
_STATIC_ADVICE = "export the network so that it follows from the shapes of the inputs"
_UNKNOWN_ADVICE = (
    "export the network with operators of ONNX's own (a quantised one in QDQ format), "
    "or with this shape in the file"
)


@dataclass(frozen=True)
class NormalForm:
    """A graph's needed nodes in topological order, and the types of their tensors.

    Attributes:
        inputs: Names of the graph's inputs; initializers are not among them.
        fixed_inputs: Those of them whose shapes the file leaves open.
        outputs: Names of the graph's outputs.
        constant_nodes: Nodes whose outputs are the same in every inference, in order.
        layers: All other nodes, in order.
        constants: Names of the stored tensors and of the constant nodes' outputs.
        types: Type of every tensor that shape inference knows.
    """

    inputs: tuple[str, ...]
    fixed_inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constant_nodes: tuple[onnx.NodeProto, ...] = field(repr=False)
    layers: tuple[onnx.NodeProto, ...] = field(repr=False)
    constants: frozenset[str] = field(repr=False)
    types: Mapping[str, TensorType] = field(repr=False)

    def spec(self, name: str, *, written_by: str) -> TensorSpec:
        """Return the spec of a data tensor.

        Raises:
            ModelError: If its shape is not static, or NumPy alone has no such element type.
        """
        elem_type, shape = _static_type(self.types, name, written_by)
        bits_per_element(elem_type)  # refuses element types that do not exist
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
        elem_type, shape = _static_type(self.types, name, "a constant")
        return -(-math.prod(shape) * bits_per_element(elem_type) // 8)


def normal_form(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]] | None = None
) -> NormalForm:
    """Return the normal form of a model's graph.

    A node is constant if it draws no random numbers, everything it reads is constant and it
    writes no output of the graph. ``Shape`` and ``Size`` of tensors of static shape become
    stored constants, and so does the arithmetic behind them where shapes depend on it.

    Args:
        model: Any ONNX model; it is not changed.
        shapes: Shapes by input name, for inputs whose shape the file leaves open.

    Raises:
        ModelError: If there are no outputs or nothing computes one, an input's shape is open or
            ``shapes`` do not fit, nodes depend on each other in a circle, or onnx rejects the
            graph.
    """
    graph = model.graph
    stored = stored_types(graph)
    inputs = [value for value in graph.input if value.name not in stored]
    outputs = tuple(value.name for value in graph.output)
    if not outputs:
        raise ModelError("the network has no outputs; is this a whole ONNX model?")
    given = dict.fromkeys(stored, "a stored constant")
    given |= {value.name: "also an input" for value in inputs}
    idle = next((name for name in outputs if name in given), None)
    if idle is not None:
        raise ModelError(f"output {idle!r} is {given[idle]}; remove it from the outputs")
    written = writers(graph.node)
    missing = next((name for name in outputs if name not in written), None)
    if missing is not None:
        raise ModelError(f"nothing in the file writes the output {missing!r}; is it damaged?")
    nodes = sorted_nodes(needed_nodes(graph.node, outputs), given)
    nodes, types = _with_types(model, nodes, fixed_inputs(inputs, shapes or {}))
    constant_nodes, layers = _divide(nodes, stored, outputs)
    return NormalForm(
        inputs=tuple(value.name for value in inputs),
        fixed_inputs=open_shapes(inputs),
        outputs=outputs,
        constant_nodes=tuple(constant_nodes),
        layers=tuple(layers),
        constants=frozenset(stored) | {name for node in constant_nodes for name in writes(node)},
        types=types,
    )


def _with_types(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto]
) -> tuple[list[onnx.NodeProto], Mapping[str, TensorType]]:
    """Return the nodes with their arithmetic on shapes folded, as far as needed, and all types."""
    outputs = [value.name for value in model.graph.output]
    while True:
        types = infer_types(model, nodes, inputs)
        found = needed_nodes(fold_shapes(nodes, types), outputs)
        written = (types.get(name) for node in found for name in writes(node))
        if all(known is not None and known.static_shape is not None for known in written):
            return found, types
        folded = needed_nodes(fold_arithmetic(found, model), outputs)
        if _evaluated(folded) == _evaluated(nodes):
            return found, types
        nodes = folded


def _evaluated(nodes: Iterable[onnx.NodeProto]) -> int:
    """Return how many nodes are something other than constants."""
    return sum(node.op_type != "Constant" for node in nodes)


def _static_type(
    types: Mapping[str, TensorType], name: str, written_by: str
) -> tuple[int, tuple[int, ...]]:
    """Return a tensor's ONNX element type and its shape, or raise a ``ModelError``."""
    found = types.get(name, TensorType(0, None))
    if found.static_shape is not None and found.elem_type:
        return found.elem_type, found.static_shape
    of = f"the shape of {name!r} ({written_by})"
    if found.dims is None or not found.elem_type:
        raise ModelError(f"{of} cannot be inferred; {_UNKNOWN_ADVICE}")
    at, size = next((i, s) for i, s in enumerate(found.dims) if not isinstance(s, int))
    which = f"dimension {at} is {repr(size) if size else 'not given'}"
    raise ModelError(f"{of} is dynamic: {which}; {_STATIC_ADVICE}")


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


def _is_random(node: onnx.NodeProto) -> bool:
    return node.op_type in _RANDOM or any(
        _is_random(inner) for graph in subgraphs(node) for inner in graph.node
    )

"""Types and shapes of all tensors of an ONNX graph, by onnx's own shape inference.

Large weights take no part: a skeleton of the model goes through inference, in which they are
inputs of known shape. It does not decide what is constant, and rejects no dynamic shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError, EncodeError

from isthmus.errors import ModelError
from isthmus.loading.stored_tensors import constant_value

__all__ = ["SMALL_ELEMENTS", "TensorType", "declared_type", "infer_types", "stored_types"]

SMALL_ELEMENTS = 1024
"""Shapes, axes and pads have fewer elements; only their values matter to shape inference."""


@dataclass(frozen=True)
class TensorType:
    """What is known of a tensor before it is certain that its shape is static.

    Attributes:
        elem_type: ONNX element type; 0 if unknown or not a tensor.
        dims: Per dimension its size, its symbolic name, or ``None``; ``None`` if the rank is
            unknown.
    """

    elem_type: int
    dims: tuple[int | str | None, ...] | None

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape, if all of it is known."""
        if self.dims is None:
            return None
        known = tuple(size for size in self.dims if isinstance(size, int))
        return known if len(known) == len(self.dims) else None


def stored_types(graph: onnx.GraphProto) -> dict[str, TensorType]:
    """Return the types of the initializers, by name."""
    types = {t.name: TensorType(t.data_type, tuple(t.dims)) for t in graph.initializer}
    for sparse in graph.sparse_initializer:
        types[sparse.values.name] = TensorType(sparse.values.data_type, tuple(sparse.dims))
    return types


def declared_type(value: onnx.ValueInfoProto) -> TensorType:
    """Return what the file itself says of a graph's input, output or inner tensor."""
    if not value.type.HasField("tensor_type"):
        return TensorType(0, None)
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(tensor.elem_type, None)
    return TensorType(tensor.elem_type, tuple(_size_of(size) for size in tensor.shape.dim))


def infer_types(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto]
) -> Mapping[str, TensorType]:
    """Check a graph and return the type of every tensor that inference knows.

    Args:
        model: The whole model.
        nodes: Those of its nodes that count, in topological order.
        inputs: Its true inputs, without initializers.

    Returns:
        Types by tensor name; tensors that inference knows nothing of are absent.

    Raises:
        ModelError: If onnx's checker or its shape inference rejects the graph.
    """
    skeleton = _skeleton(model, nodes, inputs)
    try:
        _check(skeleton)
        inferred = onnx.shape_inference.infer_shapes(
            skeleton, check_type=True, strict_mode=True, data_prop=True
        )
    except onnx.checker.ValidationError as error:
        raise ModelError(f"onnx's checker rejects the network: {_first_line(error)}") from error
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(
            f"the network's shapes do not fit together: {_first_line(error)}; "
            f"give the inputs other sizes, or export it again with static shapes"
        ) from error
    except (DecodeError, EncodeError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"onnx cannot work on the network: {_first_line(error)}") from error
    graph = inferred.graph
    values = (*graph.value_info, *graph.output, *graph.input)
    types = {value.name: declared_type(value) for value in values}
    return types | stored_types(graph) | stored_types(model.graph)


def _check(skeleton: onnx.ModelProto) -> None:
    """Run onnx's checker, which wants every output to have a shape, even if it is not known."""
    types = [value.type for value in skeleton.graph.output]
    tensors = [type_.tensor_type for type_ in types if type_.HasField("tensor_type")]
    unknown = [tensor for tensor in tensors if not tensor.HasField("shape")]
    for tensor in unknown:
        tensor.shape.SetInParent()
    onnx.checker.check_model(skeleton)
    for tensor in unknown:
        tensor.ClearField("shape")


def _skeleton(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """Return the model without large weights, which become inputs.

    Constant nodes become stored tensors: operator sets before 9 let them hold nothing but floats,
    exporters did not care, and runtimes do not.
    """
    skeleton = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name or "graph"
    graph.input.extend(inputs)
    stored = [(tensor.name, tensor) for tensor in model.graph.initializer]
    for node in nodes:
        value = constant_value(node)
        if value is None:
            graph.node.append(node)
        else:
            stored.append((node.output[0], value))
    for name, tensor in stored:
        if math.prod(tensor.dims) <= SMALL_ELEMENTS and not tensor.external_data:
            graph.initializer.append(tensor)
            graph.initializer[-1].name = name
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            )
    for sparse in model.graph.sparse_initializer:
        graph.input.append(
            onnx.helper.make_tensor_value_info(
                sparse.values.name, sparse.values.data_type, list(sparse.dims)
            )
        )
    here = {name for node in graph.node for name in node.output}
    for info in model.graph.value_info:
        if info.name in here and declared_type(info).static_shape is not None:
            graph.value_info.append(info)
    for output in model.graph.output:
        graph.output.append(output)
        if declared_type(output).static_shape is None and output.type.HasField("tensor_type"):
            graph.output[-1].type.tensor_type.ClearField("shape")
    return skeleton


def _size_of(dimension: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dimension.HasField("dim_value") and dimension.dim_value >= 0:
        return int(dimension.dim_value)
    return str(dimension.dim_param) or None


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

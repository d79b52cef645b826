"""What networks compute about their own shapes, done once: ``Shape`` and the arithmetic behind it.

It evaluates small constants only, by onnx's reference implementation, and never weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from isthmus.loading.nodes import writes
from isthmus.loading.shape_inference import SMALL_ELEMENTS, TensorType
from isthmus.loading.stored_tensors import raw_bytes

__all__ = ["fold_arithmetic", "fold_shapes"]

_ARITHMETIC = frozenset(
    """Abs Add Cast Ceil Concat ConstantOfShape Div Equal Expand Floor Gather Greater Identity
    Less Max Min Mod Mul Neg Not ReduceProd ReduceSum Reshape Round ScatterND Slice Sqrt Squeeze
    Sub Transpose Unsqueeze Where""".split()
)
_SHAPED_BY = {"ConstantOfShape": 0, "Expand": 1}  # the input that says how large the output is
_DEFAULT_DOMAINS = ("", "ai.onnx")

_Array = npt.NDArray[np.generic]


def fold_shapes(
    nodes: Iterable[onnx.NodeProto], types: Mapping[str, TensorType]
) -> list[onnx.NodeProto]:
    """Return the nodes, with constants in place of ``Shape`` and ``Size`` of static tensors."""
    return [_fold_shape(node, types) for node in nodes]


def fold_arithmetic(
    nodes: Sequence[onnx.NodeProto], model: onnx.ModelProto
) -> list[onnx.NodeProto]:
    """Return the nodes, with constants in place of arithmetic on small constants.

    Args:
        nodes: In topological order, ``Shape`` folded already.
        model: The model that they are of, for its stored tensors and operator sets.
    """
    values: dict[str, _Array] = {}
    for tensor in model.graph.initializer:
        _remember(values, tensor.name, tensor)
    folded = []
    for node in nodes:
        result = _evaluate(node, values, model.opset_import)
        if result is not None:
            values[node.output[0]] = result
            node = _constant(node, result)
        elif node.op_type == "Constant" and node.domain in _DEFAULT_DOMAINS:
            for attribute in node.attribute:
                if attribute.name == "value":
                    _remember(values, node.output[0], attribute.t)
                elif attribute.name in ("value_int", "value_ints"):
                    value = onnx.helper.get_attribute_value(attribute)
                    values[node.output[0]] = np.asarray(value, np.int64)
        folded.append(node)
    return folded


def _fold_shape(node: onnx.NodeProto, types: Mapping[str, TensorType]) -> onnx.NodeProto:
    if node.op_type not in ("Shape", "Size") or node.domain not in _DEFAULT_DOMAINS:
        return node
    shape = types.get(node.input[0], TensorType(0, None)).static_shape
    if shape is None:
        return node
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    part = shape[bounds.get("start", 0) : bounds.get("end", len(shape))]
    value = math.prod(shape) if node.op_type == "Size" else part
    return _constant(node, np.asarray(value, dtype=np.int64))


def _constant(node: onnx.NodeProto, value: _Array) -> onnx.NodeProto:
    tensor = onnx.numpy_helper.from_array(value)
    return onnx.helper.make_node("Constant", [], [node.output[0]], name=node.name, value=tensor)


def _remember(values: dict[str, _Array], name: str, tensor: onnx.TensorProto) -> None:
    """Keep a stored tensor's value if it is small and here."""
    if math.prod(tensor.dims) <= SMALL_ELEMENTS and raw_bytes(tensor) is not None:
        values[name] = onnx.numpy_helper.to_array(tensor)


def _evaluate(
    node: onnx.NodeProto, values: Mapping[str, _Array], opsets: Sequence[onnx.OperatorSetIdProto]
) -> _Array | None:
    """Return what a node computes, if it is shape arithmetic on known small values."""
    is_ours = node.op_type in _ARITHMETIC and node.domain in _DEFAULT_DOMAINS
    names = [name for name in node.input if name]
    if not is_ours or len(writes(node)) != 1 or any(name not in values for name in names):
        return None
    shaped_by = _SHAPED_BY.get(node.op_type)
    if shaped_by is not None:
        sizes = [int(size) for size in np.ravel(values[node.input[shaped_by]])]
        if math.prod(sizes) > SMALL_ELEMENTS:
            return None
    if node.op_type == "Where" and math.prod(values[n].size for n in names) > SMALL_ELEMENTS**2:
        return None  # three that are broadcast could fill the memory
    try:
        evaluator = ReferenceEvaluator(_alone(node, names, opsets))
        with np.errstate(all="ignore"):
            (result,) = evaluator.run(None, {name: values[name] for name in names})
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # shape inference has the last word
    result = np.asarray(result)
    return result if result.size <= SMALL_ELEMENTS else None


def _alone(
    node: onnx.NodeProto, inputs: Iterable[str], opsets: Sequence[onnx.OperatorSetIdProto]
) -> onnx.ModelProto:
    """Return a model of one node, because operators differ between operator sets."""
    model = onnx.ModelProto(ir_version=8, opset_import=opsets)
    model.graph.node.append(node)
    model.graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(inputs))
    model.graph.output.extend([onnx.ValueInfoProto(name=node.output[0])])
    return model

"""What a layer's time is predicted from: which layers run as one, and how much work that is.

It predicts nothing, and knows no coefficient. What really runs as one is onnxruntime's business,
and measured by ``profiling.layers``; the rule here is for a network or device that is not at hand.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from isthmus.types.graph import Layer, ModelGraph

__all__ = ["Work", "fused_units", "paper_kind", "work_of"]

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
_SCALINGS = frozenset({"Add", "BatchNormalization", "Mul"})
_NOTHING = frozenset({"Dropout", "Identity"})
_SUMS = frozenset({"Add", "Sum"})

_PAPER_KINDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("Conv", "ConvTranspose"), "convolution"),
        **dict.fromkeys(
            ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"), "pooling"
        ),
        **dict.fromkeys(("Gemm", "MatMul"), "fully_connected"),
        "LRN": "local_response_normalization",
        "Dropout": "dropout",
        "Identity": "dropout",
    }
)


@dataclass(frozen=True)
class Work:
    """How much some layers do, that run as one.

    Attributes:
        kind: What they are called by: the operator of the layer with the most operations, of
            which convolutions are told apart (``Conv.pointwise``, ``Conv.depthwise``).
        flops: Floating point operations.
        moved_bytes: Bytes of the weights, of what is read from outside and of what is written.
        output_elements: Elements of what is written.
        inputs: The papers' first feature: input feature maps of a convolution, else elements
            read by that layer.
        outputs: Their second: ``(filter size / stride)^2 * filters`` of a convolution, elements
            written by a pooling or product, else 0.
    """

    kind: str
    flops: float
    moved_bytes: float
    output_elements: float
    inputs: float
    outputs: float


def work_of(graph: ModelGraph, layers: Collection[int]) -> Work:
    """Return the work of some layers that run as one.

    Args:
        graph: Their network.
        layers: Their indices, at least one.

    References:
        Kang et al., "Neurosurgeon", ASPLOS 2017, and Li et al., "Edgent", 2018, Table 1, for
        ``inputs`` and ``outputs``. *Departs*: windows need not be square; "input feature maps" is
        read as their number.
    """
    members = [graph.layers[index] for index in sorted(layers)]
    main = max(members, key=lambda layer: layer.flops)
    inside = {name for layer in members for name in layer.outputs}
    read = {name for layer in members for name in layer.inputs} - inside
    written = {
        name
        for name in inside
        if name in graph.outputs or any(c not in layers for c in graph.consumers[name])
    }
    moved = sum(graph.tensors[name].size_bytes for name in read | written)
    inputs, outputs = _paper_features(graph, main)
    return Work(
        kind=_kind(graph, main),
        flops=float(sum(layer.flops for layer in members)),
        moved_bytes=float(moved + sum(layer.weight_bytes for layer in members)),
        output_elements=float(sum(_elements(graph, name) for name in written)),
        inputs=inputs,
        outputs=outputs,
    )


def paper_kind(work: Work) -> str:
    """Return what Edgent's table calls such a layer; ``relu`` for all that it does not list."""
    return _PAPER_KINDS.get(work.kind.partition(".")[0], "relu")


def fused_units(graph: ModelGraph, layers: Collection[int]) -> tuple[tuple[int, ...], ...]:
    """Return which layers of a part run as one, after what onnxruntime does on x86 processors.

    Behind a convolution: scalings by constants, one sum with another branch, and an activation
    that ends it. Behind a product: scalings and an activation. Dropout and Identity belong to
    what they follow. A tensor that another layer reads too, or that leaves the part, ends a unit.

    Args:
        graph: The network.
        layers: Indices of the part's layers.

    Returns:
        Indices by unit, ascending; each of ``layers`` is in one.
    """
    units: list[list[int]] = []
    unit_of: dict[int, int] = {}
    ended: set[int] = set()
    for index in sorted(layers):
        found = _joined(graph, index, units, unit_of, ended)
        if found is None:
            unit_of[index] = len(units)
            units.append([index])
        else:
            unit_of[index] = found
            units[found].append(index)
            if graph.layers[index].op_type in _ACTIVATIONS:
                ended.add(found)
    return tuple(tuple(unit) for unit in units)


def _joined(
    graph: ModelGraph,
    index: int,
    units: list[list[int]],
    unit_of: Mapping[int, int],
    ended: Collection[int],
) -> int | None:
    """Return the unit that a layer is fused into, or ``None``."""
    layer = graph.layers[index]
    sources = [
        graph.producers[name]
        for name in layer.inputs
        if name in graph.producers
        and graph.consumers[name] == (index,)
        and name not in graph.outputs
        and graph.producers[name] in unit_of
    ]
    if not sources:
        return None
    unit = unit_of[max(sources)]
    if layer.op_type in _NOTHING:
        return unit
    first = graph.layers[units[unit][0]].op_type
    is_alone = len(layer.inputs) == 1
    if unit in ended or units[unit][-1] != max(sources):
        return None
    if first in _CONVOLUTIONS:
        fits = is_alone and layer.op_type in _SCALINGS | _ACTIVATIONS
        return unit if fits or layer.op_type in _SUMS else None
    if first in _PRODUCTS:
        return unit if is_alone and layer.op_type in _SCALINGS | _ACTIVATIONS else None
    return None


def _kind(graph: ModelGraph, layer: Layer) -> str:
    if layer.op_type != "Conv":
        return layer.op_type
    channels = _channels(graph, layer.inputs[0]) if layer.inputs else 0
    if layer.groups > 1 and layer.groups == channels:
        return "Conv.depthwise"
    return "Conv.pointwise" if set(layer.kernel) == {1} and layer.groups == 1 else "Conv"


def _paper_features(graph: ModelGraph, layer: Layer) -> tuple[float, float]:
    read = float(sum(_elements(graph, name) for name in layer.inputs))
    written = float(sum(_elements(graph, name) for name in layer.outputs))
    if layer.op_type in _CONVOLUTIONS:
        window = math.prod(layer.kernel) / math.prod(layer.strides)
        maps = _channels(graph, layer.inputs[0]) if layer.inputs else 0
        return float(maps), window * (_channels(graph, layer.outputs[0]) if layer.outputs else 0)
    counts = _PAPER_KINDS.get(layer.op_type) in ("pooling", "fully_connected")
    return read, written if counts else 0.0


def _channels(graph: ModelGraph, name: str) -> int:
    shape = graph.tensors[name].shape
    return shape[1] if len(shape) > 1 else 0


def _elements(graph: ModelGraph, name: str) -> int:
    return math.prod(graph.tensors[name].shape)

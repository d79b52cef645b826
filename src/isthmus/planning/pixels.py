"""Tell which tensors of a network still show the photograph. It promises no privacy."""

from __future__ import annotations

from collections.abc import Iterable

from isthmus.errors import CutError
from isthmus.types.graph import ModelGraph

__all__ = ["has_pixels", "pixel_tensors"]

_WEIGHTED_OPERATORS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul"}
    | {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)


def has_pixels(graph: ModelGraph, tensors: Iterable[str]) -> bool:
    """Return whether some of ``tensors`` is made of the input without any weight.

    That is, whether a path from a graph input leads to it past no convolution or matrix product
    with weights of its own. A tensor that joins such a path with others has pixels too. The
    converse promises no privacy.

    Raises:
        CutError: If a tensor is not of this graph.
    """
    names = set(tensors)
    if unknown := sorted(names - graph.tensors.keys()):
        raise CutError(f"{graph.name} has no tensor {unknown[0]!r}")
    return not names.isdisjoint(pixel_tensors(graph))


def pixel_tensors(graph: ModelGraph) -> frozenset[str]:
    """Return all tensors that a path without weights leads to, graph inputs included."""
    found = set(graph.inputs)
    for layer in graph.layers:
        is_weighted = layer.op_type in _WEIGHTED_OPERATORS and layer.weight_bytes > 0
        if not is_weighted and not found.isdisjoint(layer.inputs):
            found.update(layer.outputs)
    return frozenset(found)

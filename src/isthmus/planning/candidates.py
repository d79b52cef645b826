"""Find the few cuts of a network that are worth building and measuring. It measures nothing.

Layer times are *estimated* here, and added up, which real ones do not do: the result is a list of
candidates, not a decision. Candidates are measured for real when a bundle is profiled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import CutError
from isthmus.planning.min_cut import min_cut
from isthmus.planning.partition import PartitionProblem, cut_vertices
from isthmus.types.cut import device_layers
from isthmus.types.graph import Layer, ModelGraph

__all__ = ["candidate_cuts", "estimated_layer_s", "has_pixels"]

_FLOPS_PER_S = 2e10  # one core of a phone or single-board computer, float32, in onnxruntime
_MOVED_BYTES_PER_S = 5e9
_LAYER_OVERHEAD_S = 5e-6

_UPLINK_BITS_PER_S = np.geomspace(0.1e6, 1000e6, 17)  # 0.1 to 1000 Mbit/s, four a decade
_SERVER_SPEEDUPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_CODECS = ((1.0, 0.0), (1 / 6, 1.5e-9))  # raw; u8+zstd: bytes kept, seconds per raw byte

_NEAR_MINIMUM = 1.15
"""How much more than the least bytes so far a cut vertex may send: the estimate's error."""

_TWIN_DEPTH = 0.01

_Tensors = tuple[str, ...]

_WEIGHTED_OPERATORS = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul"}
    | {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)

_ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
"""What onnxruntime fuses with the convolution or matrix product before it."""


def candidate_cuts(graph: ModelGraph, *, limit: int) -> tuple[tuple[str, ...], ...]:
    """Return the interior cuts that may be the best ones under some conditions.

    Two kinds: (a) the optimal partitions over a grid of conditions, that is 17 uplinks from 0.1
    to 1000 Mbit/s, servers 1 to 100 times as fast as the device, raw or u8+zstd tensors, and
    with or without leave to send what has pixels; (b) cuts at one tensor behind a cut vertex
    that is at most 1.15 times as large as the least so far, the graph's inputs included.

    A tensor that only an activation reads is replaced by that activation's output: runtimes fuse
    it with the layer before, so that the tensor in between exists in the file only, and what
    it leaves has as many bytes and suits codecs better.

    If there are more than ``limit``, they are ranked: first (a), those that win under more
    conditions first, smaller ones first among equals. Then (b) by depth: the device's estimated
    share of the work is divided into ``limit`` equal parts, and each gives its smallest cut,
    then its next one, and so on, the smallest first. Twins go last: cuts with the bytes of one
    ranked before and less than 1 % of the work away, as before and behind a reshape.

    Args:
        graph: The network.
        limit: Greatest number of cuts.

    Returns:
        Frontier tensors of each cut, sorted by name; the cuts with less work on the device come
        first. Every cut has layers on both sides and is valid by ``types.cut.device_layers``.

    Raises:
        ValueError: If ``limit`` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit must not be negative, got {limit}")
    layer_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    wins = _winners(graph, layer_s)
    cuts = dict.fromkeys([*wins, *_near_minima(graph)])
    device = {cut: found for cut in cuts if (found := _interior(graph, cut)) is not None}
    total_s = float(layer_s.sum())
    depth = {cut: float(layer_s[list(found)].sum()) / total_s for cut, found in device.items()}
    size = {cut: sum(graph.tensors[name].size_bytes for name in cut) for cut in device}
    ranked = sorted((cut for cut in device if cut in wins), key=lambda c: (-wins[c], size[c], c))
    ranked += _spread_along_depth([cut for cut in device if cut not in wins], size, depth, limit)
    chosen = _twins_last(ranked, size, depth)[:limit]
    return tuple(sorted(chosen, key=lambda cut: (depth[cut], cut)))


def estimated_layer_s(graph: ModelGraph, layer: Layer) -> float:
    """Return a rough time of one layer on a device: arithmetic, memory traffic, overhead.

    The constants are those of one core of a small computer; only their ratios matter here.
    """
    tensors = {*layer.inputs, *layer.outputs}
    moved = layer.weight_bytes + sum(graph.tensors[name].size_bytes for name in tensors)
    return layer.flops / _FLOPS_PER_S + moved / _MOVED_BYTES_PER_S + _LAYER_OVERHEAD_S


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
    return not names.isdisjoint(_pixel_tensors(graph))


def _pixel_tensors(graph: ModelGraph) -> frozenset[str]:
    """Return all tensors that a path without weights leads to, graph inputs included."""
    found = set(graph.inputs)
    for layer in graph.layers:
        is_weighted = layer.op_type in _WEIGHTED_OPERATORS and layer.weight_bytes > 0
        if not is_weighted and not found.isdisjoint(layer.inputs):
            found.update(layer.outputs)
    return frozenset(found)


def _winners(graph: ModelGraph, layer_s: NDArray[np.float64]) -> Mapping[_Tensors, int]:
    """Return the frontier tensors of every optimum over the grid, with how often each wins."""
    wins: Counter[_Tensors] = Counter()
    sizes = {name: graph.tensors[name].size_bytes for name, r in graph.consumers.items() if r}
    kept_here = (frozenset[str](), _pixel_tensors(graph))
    for bits_per_s, speedup, (ratio, codec_s), pinned in product(
        _UPLINK_BITS_PER_S, _SERVER_SPEEDUPS, _CODECS, kept_here
    ):
        s_per_byte = ratio * 8 / float(bits_per_s) + codec_s
        transfer_s = {
            name: np.inf if name in pinned else size * s_per_byte for name, size in sizes.items()
        }
        problem = PartitionProblem(graph, layer_s, layer_s / speedup, transfer_s)
        wins[_behind_activations(graph, min_cut(problem).tensors)] += 1
    return wins


def _near_minima(graph: ModelGraph) -> list[_Tensors]:
    """Return the cuts at one tensor behind a cut vertex that are near the least bytes so far."""
    least = sum(graph.tensors[name].size_bytes for name in graph.inputs)
    found: list[_Tensors] = []
    for vertex in cut_vertices(graph):
        read = [name for name in graph.layers[vertex].outputs if graph.consumers[name]]
        if len(read) == 1:
            size = graph.tensors[read[0]].size_bytes
            if size <= _NEAR_MINIMUM * least:
                found.append(_behind_activations(graph, (read[0],)))
            least = min(least, size)
    return found


def _behind_activations(graph: ModelGraph, cut: _Tensors) -> _Tensors:
    """Return the cut moved behind the activations that alone read one of its tensors."""
    moved: set[str] = set()
    for name in cut:
        readers = [graph.layers[index] for index in graph.consumers[name]]
        if name in graph.producers and [r.op_type in _ACTIVATIONS for r in readers] == [True]:
            moved.update(readers[0].outputs)
        else:
            moved.add(name)
    return tuple(sorted(moved))


def _interior(graph: ModelGraph, cut: _Tensors) -> frozenset[int] | None:
    """Return the device's layers, or ``None`` if one side is empty or the cut is not valid.

    A partition of a network with several outputs may have layers on the device that no frontier
    tensor depends on; such a partition is no cut.
    """
    try:
        found = device_layers(graph, cut)
    except CutError:
        return None
    return found if 0 < len(found) < len(graph.layers) else None


def _spread_along_depth(
    cuts: Iterable[_Tensors],
    size: Mapping[_Tensors, int],
    depth: Mapping[_Tensors, float],
    parts: int,
) -> list[_Tensors]:
    """Return ``cuts`` ranked: the smallest of each of ``parts`` depths, then the next of each."""
    members: dict[int, list[_Tensors]] = {}
    for cut in sorted(cuts, key=lambda cut: (size[cut], cut)):
        members.setdefault(int(depth[cut] * parts), []).append(cut)
    ranks = {cut: rank for part in members.values() for rank, cut in enumerate(part)}
    return sorted(ranks, key=lambda cut: (ranks[cut], size[cut], cut))


def _twins_last(
    ranked: Iterable[_Tensors], size: Mapping[_Tensors, int], depth: Mapping[_Tensors, float]
) -> list[_Tensors]:
    """Return ``ranked`` with those that are nearly the same as an earlier one at the end."""
    distinct: list[_Tensors] = []
    twins: list[_Tensors] = []
    for cut in ranked:
        is_twin = any(
            size[cut] == size[other] and abs(depth[cut] - depth[other]) < _TWIN_DEPTH
            for other in distinct
        )
        (twins if is_twin else distinct).append(cut)
    return distinct + twins

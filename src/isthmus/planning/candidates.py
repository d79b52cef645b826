"""Find the few cuts of a network that are worth building and measuring. It measures nothing.

Layer times are *estimated* here, and added up, which real ones do not do: the result is a list of
candidates, not a decision. Candidates are measured for real when a bundle is profiled. The
frontier of the estimates is exact, so what is lost by keeping only a few is known: the gaps.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import CutError
from isthmus.planning.cheapest_plan import CheapestPlan, PlanCosts
from isthmus.planning.envelope import STATED_CONE, Condition, CostVector, Envelope, cost_s
from isthmus.planning.frontier import FrontierPlan, frontier
from isthmus.planning.partition import crossing_tensors, cut_vertices
from isthmus.planning.pixels import pixel_tensors
from isthmus.types.cut import device_layers
from isthmus.types.graph import Layer, ModelGraph

__all__ = [
    "CandidateCuts", "behind_activations", "candidates", "codec_ways", "estimated_device_s",
    "estimated_layer_s", "interior", "latency_gap",
]  # fmt: skip

_FLOPS_PER_S = 2e10  # one core of a phone or single-board computer, float32, in onnxruntime
_MOVED_BYTES_PER_S = 5e9
_LAYER_OVERHEAD_S = 5e-6

_SERVER_SPEEDUP = 10.0
"""Of the server in the estimates; the cone has servers up to ten times faster and slower."""

_CODECS = ((1.0, 0.0), (1 / 6, 1.5e-9))  # raw; u8+zstd: bytes kept, seconds per raw byte

_GRID_WEIGHTS = np.array(
    [
        (1.0, 8 / bits_per_s, _SERVER_SPEEDUP / speedup)
        for bits_per_s in np.geomspace(0.1e6, 1000e6, 17)  # 0.1 to 1000 Mbit/s, four a decade
        for speedup in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    ]
)
"""float64 ``[conditions, 3]``: weights of device seconds, bytes, server seconds."""

_ERROR_RATIO = 0.15
"""How far the sum of layer times may be from the truth: nearer cuts count as equally good."""

_DIVISIONS = 64
"""Cuts looked at inside each segment for objectives that are not linear."""

_TWIN_DEPTH = 0.01

_Tensors = tuple[str, ...]

_ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh"})
"""What onnxruntime fuses with the convolution or matrix product before it."""


@dataclass(frozen=True)
class CandidateCuts:
    """Some cuts, and what is lost by having no others, as far as the estimates are true.

    Attributes:
        cuts: Frontier tensors of each, sorted; those with less work on the device come first.
        latency_gap_ratio: Under no condition of the stated cone is the best plan with one of
            these cuts, or none, slower than the best of all plans by more than this share; for
            raw and for u8+zstd tensors, with and without leave to send what has pixels.
        stage_gap_ratio: The same for the longest of the three stages (device, link, server), which
            limits a stream of requests; over a grid of conditions, raw tensors, and all cuts
            between segments and some inside each, so it is no proof.
    """

    cuts: tuple[_Tensors, ...]
    latency_gap_ratio: float
    stage_gap_ratio: float


def candidates(graph: ModelGraph, *, limit: int) -> CandidateCuts:
    """Return the interior cuts that may be the best ones under some conditions.

    Three kinds: (a) the vertices of the frontier over the stated cone, for raw and u8+zstd tensors,
    with and without leave to send what has pixels; (b) cuts at one tensor behind a cut vertex
    that is at most 1.15 times as large as the least so far, the graph's inputs included; (c)
    cuts that shorten the longest stage by more than 15 % against all before, somewhere on a
    grid of 17 uplinks from 0.1 to 1000 Mbit/s and servers 1 to 100 times as fast as the device;
    inside a segment between cut vertices, 64 cuts are looked at.

    A tensor that only an activation reads is replaced by that activation's output: runtimes fuse
    it with the layer before, so that the tensor in between exists in the file only, and what
    it leaves has as many bytes and suits codecs better.

    If there are more than ``limit``, they are ranked: first (a), those that win under more
    conditions of the grid first, smaller ones first among equals. Then (b) by depth: the
    device's estimated share of the work is divided into ``limit`` equal parts, and each gives its
    smallest cut, then its next one, and so on, the smallest first. Then (c) by what they gain.
    Twins go last: cuts with the bytes of one ranked before and less than 1 % of the work away, as
    before and behind a reshape.

    Args:
        graph: The network.
        limit: Greatest number of cuts.

    Returns:
        Cuts with layers on both sides, valid by ``types.cut.device_layers`` and at none of the
        network's outputs, which no tail would give; and the gaps.

    Raises:
        ValueError: If ``limit`` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit must not be negative, got {limit}")
    device_s = estimated_device_s(graph)
    ways = codec_ways(graph, device_s, device_s / _SERVER_SPEEDUP)
    hulls = [frontier(way).plans for way in ways]
    wins = _wins(graph, hulls)
    near = _near_minima(graph)
    device = _interior(graph, [*wins, *near])
    stages = _StageTimes.of(ways[0])
    shorter = _interior(graph, stages.shorter(graph, device.values()))
    device |= {cut: found for cut, found in shorter.items() if cut not in device}

    layer_s = ways[0].device_s
    total_s = float(layer_s.sum())
    depth = {cut: float(layer_s[list(found)].sum()) / total_s for cut, found in device.items()}
    size = {cut: sum(graph.tensors[name].size_bytes for name in cut) for cut in device}
    ranked = sorted((cut for cut in device if cut in wins), key=lambda c: (-wins[c], size[c], c))
    behind = [cut for cut in near if cut in device and cut not in wins]
    ranked += _spread_along_depth(behind, size, depth, limit)
    ranked += [cut for cut in shorter if cut not in ranked]
    chosen = _twins_last(ranked, size, depth)[:limit]

    kept = [device[cut] for cut in chosen]
    gaps = [latency_gap(way, hull, kept)[0] for way, hull in zip(ways, hulls, strict=True)]
    return CandidateCuts(
        tuple(sorted(chosen, key=lambda cut: (depth[cut], cut))),
        max(gaps),
        stages.gap(graph, kept),
    )


def estimated_layer_s(graph: ModelGraph, layer: Layer) -> float:
    """Return a rough time of one layer on a device: arithmetic, memory traffic, overhead.

    The constants are those of one core of a small computer; only their ratios matter here.
    """
    tensors = {*layer.inputs, *layer.outputs}
    moved = layer.weight_bytes + sum(graph.tensors[name].size_bytes for name in tensors)
    return layer.flops / _FLOPS_PER_S + moved / _MOVED_BYTES_PER_S + _LAYER_OVERHEAD_S


def estimated_device_s(graph: ModelGraph) -> NDArray[np.float64]:
    """Return a rough time of every layer on a device, float64 ``[n]``, seconds.

    An activation that is fused with the layer before costs nothing of its own.
    """
    device_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    fused = [index for name in graph.tensors if (index := _fused(graph, name)) is not None]
    device_s[fused] = 0.0
    return device_s


def codec_ways(
    graph: ModelGraph, device_s: NDArray[np.float64], server_s: NDArray[np.float64]
) -> list[PlanCosts]:
    """Return the costs for each codec, with and without leave to send pixels.

    Args:
        graph: The network.
        device_s: Time of every layer on the device, ``[n]``, seconds.
        server_s: The same on the server.
    """
    sizes = {name: graph.tensors[name].size_bytes for name, r in graph.consumers.items() if r}
    return [
        PlanCosts(
            graph,
            device_s,
            server_s,
            {name: math.inf if name in kept else size * ratio for name, size in sizes.items()},
            {name: size * codec_s for name, size in sizes.items()},
        )
        for (ratio, codec_s), kept in product(_CODECS, (frozenset[str](), pixel_tensors(graph)))
    ]


def _wins(graph: ModelGraph, hulls: Iterable[Sequence[FrontierPlan]]) -> Mapping[_Tensors, int]:
    """Return the frontier tensors of every vertex, with how often it wins on the grid."""
    wins: Counter[_Tensors] = Counter()
    for plans in hulls:
        least = (_GRID_WEIGHTS @ np.array([plan.costs for plan in plans]).T).argmin(axis=1)
        counts = np.bincount(least, minlength=len(plans)).tolist()
        for plan, count in zip(plans, counts, strict=True):
            wins[behind_activations(graph, plan.tensors)] += count
    return wins


def latency_gap(
    way: PlanCosts, hull: Sequence[FrontierPlan], kept: Iterable[frozenset[int]]
) -> tuple[float, Condition]:
    """Return how much slower the best plan of a few can be than the best of all, and where.

    The few are those kept, and the plans that do not cut the network. Their least cost is linear
    over the cell of each, the least of all is concave, so their ratio is greatest at a corner of a
    cell; the first of the worst corners counts.

    Args:
        way: The costs.
        hull: The frontier of these costs over the stated cone.
        kept: The device's layers of each plan kept.

    Returns:
        The gap as a share of the least cost, and the condition.
    """
    envelope = Envelope(STATED_CONE)
    whole = frozenset(range(len(way.graph.layers)))
    for index, device in enumerate([whole, frozenset[int](), *kept]):
        costs = way.of(device)
        if math.isfinite(costs[1]):
            envelope.add(index, costs)
    worst, at = 0.0, STATED_CONE.corners[0]
    for corner in envelope.corners():
        least_s = min(cost_s(plan.costs, corner.condition) for plan in hull)
        if least_s > 0 and corner.cost_s / least_s - 1 > worst:
            worst, at = corner.cost_s / least_s - 1, corner.condition
    return worst, at


@dataclass(frozen=True, eq=False)
class _StageTimes:
    """How long the longest stage of many plans takes on the grid.

    Attributes:
        way: The costs.
        plans: The layers on the device of each.
        seconds: float64 ``[plans, conditions]``.
    """

    way: PlanCosts
    plans: Sequence[frozenset[int]]
    seconds: NDArray[np.float64]

    @staticmethod
    def of(way: PlanCosts) -> _StageTimes:
        found = list(CheapestPlan(way).some(_DIVISIONS))
        return _StageTimes(way, [one.device for one in found], _longest([f.costs for f in found]))

    def shorter(self, graph: ModelGraph, kept: Iterable[frozenset[int]]) -> list[_Tensors]:
        """Return the cuts that shorten the longest stage by more than the error, best first."""
        found: list[_Tensors] = []
        have = self._best(graph, kept)
        while True:
            gains = (have / self.seconds).max(axis=1)
            best = int(gains.argmax())
            if not gains[best] > 1 + _ERROR_RATIO:
                return found
            have = np.minimum(have, self.seconds[best])
            found.append(behind_activations(graph, crossing_tensors(graph, self.plans[best])))

    def gap(self, graph: ModelGraph, kept: Iterable[frozenset[int]]) -> float:
        """Return how much longer the longest stage is with the kept plans than with all."""
        have = self._best(graph, kept)
        return float((have / np.minimum(have, self.seconds.min(axis=0))).max() - 1)

    def _best(self, graph: ModelGraph, kept: Iterable[frozenset[int]]) -> NDArray[np.float64]:
        whole = frozenset(range(len(graph.layers)))
        vectors = [self.way.of(device) for device in (whole, frozenset[int](), *kept)]
        best: NDArray[np.float64] = _longest(vectors).min(axis=0)
        return best


def _longest(vectors: Sequence[CostVector]) -> NDArray[np.float64]:
    """Return the seconds of the longest stage, float64 ``[vectors, conditions]``."""
    stages = np.array(vectors)[:, None, :] * _GRID_WEIGHTS
    longest: NDArray[np.float64] = stages.max(axis=2)
    return longest


def _near_minima(graph: ModelGraph) -> list[_Tensors]:
    """Return the cuts at one tensor behind a cut vertex that are near the least bytes so far."""
    least = sum(graph.tensors[name].size_bytes for name in graph.inputs)
    found: list[_Tensors] = []
    for vertex in cut_vertices(graph):
        read = [name for name in graph.layers[vertex].outputs if graph.consumers[name]]
        if len(read) == 1:
            size = graph.tensors[read[0]].size_bytes
            if size <= (1 + _ERROR_RATIO) * least:
                found.append(behind_activations(graph, (read[0],)))
            least = min(least, size)
    return found


def _fused(graph: ModelGraph, name: str) -> int | None:
    """Return the activation that a runtime fuses with the layer that makes a tensor."""
    readers = graph.consumers[name]
    if name in graph.producers and len(readers) == 1:
        return readers[0] if graph.layers[readers[0]].op_type in _ACTIVATIONS else None
    return None


def behind_activations(graph: ModelGraph, cut: _Tensors) -> _Tensors:
    """Return the cut moved behind the activations that alone read one of its tensors."""
    moved: set[str] = set()
    for name in cut:
        activation = _fused(graph, name)
        moved.update((name,) if activation is None else graph.layers[activation].outputs)
    return tuple(sorted(moved))


def interior(graph: ModelGraph, cut: Iterable[str]) -> frozenset[int] | None:
    """Return the device's layers of a cut with layers on both sides, ``None`` if it is no such.

    Nor is a cut at one of the network's outputs, which no tail would give. A partition of a
    network with several outputs may have layers on the device that no frontier tensor depends
    on; such a partition is no cut at all.
    """
    tensors = set(cut)
    if tensors.isdisjoint(graph.outputs):
        with contextlib.suppress(CutError):
            device = device_layers(graph, tensors)
            if 0 < len(device) < len(graph.layers):
                return device
    return None


def _interior(graph: ModelGraph, cuts: Iterable[_Tensors]) -> dict[_Tensors, frozenset[int]]:
    """Return the device's layers of those cuts that are in the network's interior."""
    found = {cut: interior(graph, cut) for cut in cuts}
    return {cut: device for cut, device in found.items() if device is not None}


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

"""Cut a network between sites in a row, such as device, edge and cloud. It decides no deadlines.

Each site reaches only its neighbours, so what goes from the device to the cloud passes the edge. A
layer's *level* is its site's place in the row; no tensor flows back, so that no layer is at a lower
level than one that it reads from. The cuts between the sites are nested, and one minimum cut
finds them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.flow import Arc, FlowNetwork
from isthmus.types.graph import ModelGraph

__all__ = ["Hop", "RowPartition", "RowProblem", "row_brute_force", "row_min_cut"]

_MOST_ASSIGNMENTS = 10**6


@dataclass(frozen=True, eq=False)
class Hop:
    """What it costs to go from one site to the next.

    Attributes:
        transfer_s: Seconds to send each tensor that some layer reads, graph inputs included;
            infinite for a tensor that must not cross.
        message_s: Round trip and overhead, paid once if any layer runs behind the hop, seconds.
        return_s: Seconds that each graph output made behind the hop takes back; absent is 0.
    """

    transfer_s: Mapping[str, float]
    message_s: float = 0.0
    return_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RowProblem:
    """What each layer costs at each site, and each hop between two of them.

    The first site has the inputs and wants the outputs. A tensor pays each hop that it passes
    once, however many layers behind it read it.

    Attributes:
        graph: The network.
        layer_s: float64 ``[n]`` for each site, device first: seconds of each layer there.
        hops: From each site to the next, one fewer than sites.
    """

    graph: ModelGraph
    layer_s: tuple[NDArray[np.float64], ...]
    hops: tuple[Hop, ...]

    def __post_init__(self) -> None:
        graph = self.graph
        if not 1 <= len(self.hops) == len(self.layer_s) - 1:
            raise ValueError(f"{len(self.layer_s)} sites in a row and {len(self.hops)} hops")
        for level, costs in enumerate(self.layer_s):
            if costs.shape != (len(graph.layers),):
                raise ValueError(f"layer_s[{level}] has shape {costs.shape}")
            if not (np.isfinite(costs).all() and (costs >= 0).all()):
                raise ValueError(f"layer_s[{level}] must be finite and not negative")
        read = {name for name, readers in graph.consumers.items() if readers}
        for place, hop in enumerate(self.hops):
            if missing := sorted(read - hop.transfer_s.keys()):
                raise ValueError(f"transfer_s of hop {place} lacks {missing[0]!r}")
            if unknown := sorted(hop.return_s.keys() - set(graph.outputs)):
                raise ValueError(
                    f"return_s of hop {place} names {unknown[0]!r}, which is no output"
                )
            if any(not value >= 0 for value in hop.transfer_s.values()):
                raise ValueError(f"transfer_s of hop {place} must not be negative")
            others = (hop.message_s, *hop.return_s.values())
            if any(not (math.isfinite(value) and value >= 0) for value in others):
                raise ValueError(f"message_s and return_s of hop {place} must be from 0, finite")


@dataclass(frozen=True)
class RowPartition:
    """A solution.

    Attributes:
        levels: The site of each layer; 0 is the device.
        tensors: What crosses each hop, sorted.
        cost_s: Its latency in float64, messages and returns included, seconds.
        error_s: The optimum is not less than ``cost_s - error_s``.
    """

    levels: tuple[int, ...]
    tensors: tuple[tuple[str, ...], ...]
    cost_s: float
    error_s: float = 0.0


def row_min_cut(problem: RowProblem) -> RowPartition:
    """Return a partition of least latency, by one minimum cut with levels.

    Each layer is a vertex for each hop, on the source's side if the layer runs before that hop;
    an infinite arc keeps a layer that is before one hop before all later ones. The arc from a
    hop's vertex to that of the hop before is cut if the layer runs between them, and costs what
    it costs there. At each hop a tensor is an auxiliary vertex, so that it is paid once, and
    so is the message. Infinite arcs run against the data flow. All layers on the device win ties.

    Complexity: O(V^2 E) in theory, about linear on networks; V grows with layers times hops.

    References:
        Hu et al. (DADS), INFOCOM 2019, for two sites; Picard, "Maximal closure of a graph and
        applications to combinatorial problems", 1976, for project selection. *Departs*: levels,
        messages, the way back.
    """
    count, hops = len(problem.graph.layers), len(problem.hops)
    here = row_partition_of(problem, (0,) * count)
    arcs, capacities = _arcs(problem)
    network = FlowNetwork(arcs, source=count * hops, sink=count * hops + 1)
    cut = network.cut(np.array(capacities), below=here.cost_s)
    if cut is None:
        return here
    is_before = cut.is_source_side[: count * hops].reshape(hops, count)
    levels = tuple((hops - is_before.sum(axis=0)).tolist())
    return row_partition_of(problem, levels, error_s=cut.value - cut.least)


def row_brute_force(problem: RowProblem) -> RowPartition:
    """Return a partition of least latency by trying all; all layers on the device win ties.

    Raises:
        ValueError: If there are more than a million ways to place the layers.
    """
    count, sites = len(problem.graph.layers), len(problem.layer_s)
    if sites**count > _MOST_ASSIGNMENTS:
        raise ValueError(f"{count} layers at {sites} sites are too many for brute force")
    best = row_partition_of(problem, (0,) * count)
    for levels in _all_levels(problem.graph, sites):
        best = min(best, row_partition_of(problem, levels), key=lambda found: found.cost_s)
    return best


def row_partition_of(
    problem: RowProblem, levels: Sequence[int], *, error_s: float = 0.0
) -> RowPartition:
    """Return the partition with each layer at this level, and what it costs."""
    graph = problem.graph
    made_at = {name: levels[i] for name, i in graph.producers.items()}
    cost_s = sum(float(problem.layer_s[level][i]) for i, level in enumerate(levels))
    crossing = []
    for place, hop in enumerate(problem.hops):
        names = sorted(
            name
            for name, readers in graph.consumers.items()
            if made_at.get(name, 0) <= place and any(levels[i] > place for i in readers)
        )
        crossing.append(tuple(names))
        cost_s += sum(hop.transfer_s[name] for name in names)
        cost_s += hop.message_s if max(levels) > place else 0.0
        back = (value for name, value in hop.return_s.items() if made_at.get(name, 0) > place)
        cost_s += sum(back)
    return RowPartition(tuple(levels), tuple(crossing), cost_s, error_s)


def _all_levels(graph: ModelGraph, sites: int) -> Iterator[tuple[int, ...]]:
    """Yield the levels of all layers in every way that lets nothing flow back."""
    pending: list[tuple[int, ...]] = [()]
    while pending:
        levels = pending.pop()
        if len(levels) == len(graph.layers):
            yield levels
            continue
        names = graph.layers[len(levels)].inputs
        made = [levels[graph.producers[name]] for name in names if name in graph.producers]
        pending += [(*levels, level) for level in range(max(made, default=0), sites)]


def _arcs(problem: RowProblem) -> tuple[list[Arc], list[float]]:
    """Return the arcs and their capacities, seconds.

    Vertices: each layer for each hop, then the source, the sink, and at each hop one for the
    message and one for each tensor read.
    """
    graph = problem.graph
    count, hops = len(graph.layers), len(problem.hops)
    source, sink = count * hops, count * hops + 1
    size = sink + 1
    arcs: list[Arc] = []
    capacities: list[float] = []

    def vertex(layer: int, hop: int) -> int:
        if hop < 0:
            return sink
        return source if layer < 0 or hop == hops else hop * count + layer

    def add(start: int, end: int, capacity: float) -> None:
        arcs.append((start, end))
        capacities.append(capacity)

    back_s = np.zeros(count)  # of the hops up to a level
    for level, costs in enumerate(problem.layer_s):
        if level > 0:
            for name, value in problem.hops[level - 1].return_s.items():
                if name in graph.producers:
                    back_s[graph.producers[name]] += value
        for layer, value in enumerate((costs + back_s).tolist()):
            add(vertex(layer, level), vertex(layer, level - 1), value)
            if 0 < level < hops:
                add(vertex(layer, level - 1), vertex(layer, level), math.inf)
    for place, hop in enumerate(problem.hops):
        add(source, size, hop.message_s)
        for layer in range(count):
            add(size, vertex(layer, place), math.inf)
        size += 1
        for name, readers in graph.consumers.items():
            if not readers:
                continue
            producer = graph.producers.get(name, -1)
            add(vertex(producer, place), size, hop.transfer_s[name])
            for reader in readers:
                add(size, vertex(reader, place), math.inf)
                if producer >= 0:
                    add(vertex(reader, place), vertex(producer, place), math.inf)
            size += 1
    return arcs, capacities

"""Cut a network between sites in a row, such as device, edge and cloud. It decides no deadlines.

Each site reaches only its neighbours, so what goes from the device to the cloud passes the edge. A
layer's *level* is its site's place in the row; no tensor flows back, so that no layer is at a lower
level than one that it reads from. The cuts between the sites are nested, and one minimum cut
finds them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.flow import Arc, FlowNetwork
from isthmus.planning.partition import check_costs, check_covered, check_message
from isthmus.types.graph import ModelGraph

__all__ = [
    "Hop", "RowNetwork", "RowPartition", "RowProblem",
    "all_levels", "part_costs", "row_brute_force", "row_min_cut", "row_partition_of",
]  # fmt: skip

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
        if not 1 <= len(self.hops) == len(self.layer_s) - 1:
            raise ValueError(f"{len(self.layer_s)} sites in a row and {len(self.hops)} hops")
        check_costs(self.graph, {f"layer_s[{i}]": costs for i, costs in enumerate(self.layer_s)})
        for place, hop in enumerate(self.hops):
            where = f" of hop {place}"
            check_covered(self.graph, f"transfer_s{where}", hop.transfer_s)
            check_message(self.graph, hop.message_s, hop.return_s, where=where)


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


class RowNetwork:
    """A row of sites as a flow network, laid out once; only the weights of its parts change.

    The *parts* of a row are its sites and hops in order: device, first hop, second site, second
    hop and so on, ``2 * sites - 1`` of them. A condition weighs each of them.

    Each layer is a vertex for each hop, on the source's side if the layer runs before that hop;
    an infinite arc keeps a layer that is before one hop before all later ones. The arc from a
    hop's vertex to that of the hop before is cut if the layer runs between them, and costs what
    it costs there. At each hop a tensor is an auxiliary vertex, so that it is paid once, and
    so is the message. Infinite arcs run against the data flow.
    """

    def __init__(self, problem: RowProblem) -> None:
        """Lay out the arcs and their costs at weight 1."""
        self._shape = len(problem.hops), len(problem.graph.layers)
        vertices = len(problem.hops) * len(problem.graph.layers)
        found = list(_arcs(problem))
        arcs = [arc for arc, _, _ in found]
        self._costs_s = np.array([cost_s for _, cost_s, _ in found])
        self._parts = np.array([part for _, _, part in found])
        self._network = FlowNetwork(arcs, source=vertices, sink=vertices + 1)

    def below(
        self, weights: NDArray[np.float64], bound_s: float
    ) -> tuple[tuple[int, ...] | None, float]:
        """Return the levels of a cheapest partition if it costs less than ``bound_s``.

        Args:
            weights: float64 ``[parts]``, positive.
            bound_s: What it must stay below, seconds.

        Returns:
            The site of each layer, or ``None``; and what no partition costs less than, up to the
            rounding of floats.
        """
        cut = self._network.cut(self._costs_s * weights[self._parts], below=bound_s)
        if cut is None:
            return None, bound_s
        hops, count = self._shape
        is_before = cut.is_source_side[: hops * count].reshape(hops, count)
        return tuple((hops - is_before.sum(axis=0)).tolist()), cut.least


def row_min_cut(problem: RowProblem) -> RowPartition:
    """Return a partition of least latency, by one minimum cut with levels (``RowNetwork``).

    All layers on the device win ties.

    Complexity: O(V^2 E) in theory, about linear on networks; V grows with layers times hops.

    References:
        Hu et al. (DADS), INFOCOM 2019, for two sites; Picard, "Maximal closure of a graph and
        applications to combinatorial problems", 1976, for project selection. *Departs*: levels,
        messages, the way back.
    """
    here = row_partition_of(problem, (0,) * len(problem.graph.layers))
    weights = np.ones(2 * len(problem.layer_s) - 1)
    levels, least_s = RowNetwork(problem).below(weights, here.cost_s)
    if levels is None:
        return here
    found = row_partition_of(problem, levels)
    return replace(found, error_s=max(0.0, found.cost_s - least_s))


def row_brute_force(problem: RowProblem) -> RowPartition:
    """Return a partition of least latency by trying all; all layers on the device win ties.

    Raises:
        ValueError: If there are more than a million ways to place the layers.
    """
    count, sites = len(problem.graph.layers), len(problem.layer_s)
    if sites**count > _MOST_ASSIGNMENTS:
        raise ValueError(f"{count} layers at {sites} sites are too many for brute force")
    best = row_partition_of(problem, (0,) * count)
    for levels in all_levels(problem.graph, sites):
        best = min(best, row_partition_of(problem, levels), key=lambda found: found.cost_s)
    return best


def row_partition_of(problem: RowProblem, levels: Sequence[int]) -> RowPartition:
    """Return the partition with each layer at this level, and what it costs."""
    graph = problem.graph
    made_at = {name: levels[i] for name, i in graph.producers.items()}
    crossing = tuple(
        tuple(
            sorted(
                name
                for name, readers in graph.consumers.items()
                if made_at.get(name, 0) <= place and any(levels[i] > place for i in readers)
            )
        )
        for place in range(len(problem.hops))
    )
    return RowPartition(tuple(levels), crossing, float(sum(part_costs(problem, levels))))


def part_costs(problem: RowProblem, levels: Sequence[int]) -> tuple[float, ...]:
    """Return what each part of the row costs, in their order (``RowNetwork``), seconds."""
    graph = problem.graph
    level = np.array(levels)
    total = [0.0] * (2 * len(problem.layer_s) - 1)
    for site, costs in enumerate(problem.layer_s):
        total[2 * site] = float(costs[level == site].sum())
    for place, hop in enumerate(problem.hops):
        if max(levels) > place:
            total[2 * place + 1] += hop.message_s
    for name, readers in graph.consumers.items():
        made_at = levels[graph.producers[name]] if name in graph.producers else 0
        for place in range(made_at, max((levels[i] for i in readers), default=made_at)):
            total[2 * place + 1] += problem.hops[place].transfer_s[name]
        if name in graph.outputs:
            for place in range(made_at):
                total[2 * place + 1] += problem.hops[place].return_s.get(name, 0.0)
    return tuple(total)


def all_levels(graph: ModelGraph, sites: int) -> Iterator[tuple[int, ...]]:
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


def _arcs(problem: RowProblem) -> Iterator[tuple[Arc, float, int]]:
    """Yield each arc, its cost at weight 1 in seconds, and the part that weighs it.

    Vertices: each layer for each hop, then the source, the sink, and at each hop one for the
    message and one for each tensor read.
    """
    graph = problem.graph
    count, hops = len(graph.layers), len(problem.hops)
    source, sink = count * hops, count * hops + 1
    size = sink + 1

    def vertex(layer: int, hop: int) -> int:
        if hop < 0:
            return sink
        return source if layer < 0 or hop == hops else hop * count + layer

    for level, costs in enumerate(problem.layer_s):
        for layer, value in enumerate(costs.tolist()):
            here = vertex(layer, level), vertex(layer, level - 1)
            yield here, value, 2 * level
            if 0 < level < hops:
                yield (here[1], here[0]), math.inf, 0
            for place in range(level):
                for name in graph.layers[layer].outputs:
                    if value := problem.hops[place].return_s.get(name, 0.0):
                        yield here, value, 2 * place + 1
    for place, hop in enumerate(problem.hops):
        yield (source, size), hop.message_s, 2 * place + 1
        for layer in range(count):
            yield (size, vertex(layer, place)), math.inf, 0
        size += 1
        for name, readers in graph.consumers.items():
            if not readers:
                continue
            producer = graph.producers.get(name, -1)
            yield (vertex(producer, place), size), hop.transfer_s[name], 2 * place + 1
            for reader in readers:
                yield (size, vertex(reader, place)), math.inf, 0
                if producer >= 0:
                    yield (vertex(reader, place), vertex(producer, place)), math.inf, 0
            size += 1

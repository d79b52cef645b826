"""Cut any network in two by a minimum cut. It does not know where costs come from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from isthmus.planning.flow import Arc, FlowNetwork
from isthmus.planning.partition import Partition, PartitionProblem, partition_of

__all__ = ["FreeCut", "cut_free_layers", "min_cut"]


def min_cut(problem: PartitionProblem) -> Partition:
    """Return a partition of least latency, by one or a few maximum flows.

    ``message_s`` is not in the network. If the least cut leaves all layers on the device, no
    other can be better with the message; otherwise it is the best of those that cross, and is
    compared with all layers on the device, which wins ties.

    The result is costed in float64. Rounding within the flow can miss the optimum by
    ``Partition.error_s``.

    Complexity: O(V^2 E) in theory (Dinic), about linear on networks.

    References:
        Hu et al., "Dynamic Adaptive DNN Surgery" (DADS), INFOCOM 2019, for the construction.
        *Departs*: the arcs against the data flow, pinned inputs, the message, the way back.
    """
    everything = range(len(problem.graph.layers))
    here = partition_of(problem, frozenset(everything))
    cut = cut_free_layers(problem, everything, below_s=here.cost_s)
    if cut is None:
        return here
    there = partition_of(problem, cut.device_layers)
    return replace(min(here, there, key=lambda found: found.cost_s), error_s=cut.error_s)


@dataclass(frozen=True)
class FreeCut:
    """Some free layers divided between device and server.

    Attributes:
        device_layers: Those on the device.
        cost_s: What the free layers cost, with the tensors for which it matters where they are.
        error_s: No cut costs less than ``cost_s - error_s``.
    """

    device_layers: frozenset[int]
    cost_s: float
    error_s: float


def cut_free_layers(problem: PartitionProblem, free: range, *, below_s: float) -> FreeCut | None:
    """Return a least cut of the free layers, if it costs less than ``below_s``.

    All layers before them are on the device, all behind them on the server. The source's side
    is the device. A layer costs an arc from the source (cut if it is on the server) or to the
    sink (cut if it is on the device): only the dearer of its two costs, less the cheaper. A
    tensor with several readers is an auxiliary vertex, so that it is paid once. Infinite arcs
    run against the data flow: without them a layer on the device could read from the server for
    nothing.

    Args:
        problem: Its ``message_s`` is not looked at.
        free: Indices of the free layers.
        below_s: What the cut must cost less than.

    Returns:
        The cut. Tensors that are there before the free layers and are read behind them cross
        whatever the free layers do, and are not in its cost.
    """
    graph = problem.graph
    count = len(free)
    source, sink = count, count + 1
    device_s = problem.device_s[free.start : free.stop]
    server_s = problem.server_s[free.start : free.stop].astype(float)
    for name, value in problem.return_s.items():
        if (producer := graph.producers.get(name, -1)) in free:
            server_s[producer - free.start] += value
    floor_s = float(np.minimum(device_s, server_s).sum())
    surplus_s = (server_s - device_s).tolist()
    arcs: list[Arc] = [(source, i) if extra > 0 else (i, sink) for i, extra in enumerate(surplus_s)]
    capacities = [abs(extra) for extra in surplus_s]
    layers = graph.layers[free.start : free.stop]
    size = count + 2
    for name in {n: None for layer in layers for n in (*layer.inputs, *layer.outputs)}:
        readers = [reader - free.start for reader in graph.consumers[name]]
        is_read_behind = bool(readers) and readers[-1] >= count
        producer = graph.producers.get(name, -1) - free.start
        if producer < 0:
            producer = source
        if not readers or (producer == source and is_read_behind):
            continue
        inside = [reader for reader in readers if 0 <= reader < count]
        if is_read_behind:
            crossing = (producer, sink)
        elif len(inside) == 1:
            crossing = (producer, inside[0])
        else:
            crossing = (producer, size)
            arcs += [(size, reader) for reader in inside]
            size += 1
        backwards = [(reader, producer) for reader in inside] if producer != source else []
        arcs += backwards
        capacities += [np.inf] * (len(arcs) - len(capacities))
        arcs.append(crossing)
        capacities.append(problem.transfer_s[name])
    network = FlowNetwork(arcs, source=source, sink=sink)
    cut = network.cut(np.array(capacities), below=below_s - floor_s)
    if cut is None:
        return None
    chosen = frozenset((np.flatnonzero(cut.is_source_side[:count]) + free.start).tolist())
    return FreeCut(chosen, floor_s + cut.value, cut.value - cut.least)

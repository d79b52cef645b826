"""Cut a chain of layers in two by looking at every place. It refuses any other network."""

from __future__ import annotations

import numpy as np

from isthmus.errors import CutError
from isthmus.planning.partition import Partition, PartitionProblem, partition_of
from isthmus.types.graph import ModelGraph

__all__ = ["chain_scan"]


def chain_scan(problem: PartitionProblem) -> Partition:
    """Return a partition of least latency of a chain, by trying all partition points.

    In a chain, the first layer reads the graph's inputs, and every other reads something of the
    layer before it and nothing else; any layer's output may be the graph's, too. The partitions
    are then the points ``p`` from 0 to n: layers ``0 .. p-1`` run on the device. All layers on
    the device win ties, then the smaller ``p``.

    Complexity: O(n).

    Raises:
        CutError: If the network is no chain; it names the layer that breaks it.

    References:
        Kang et al., "Neurosurgeon", ASPLOS 2017. *Departs*: the message and the outputs' way
        back count; the server's load is part of ``server_s``.
    """
    graph = problem.graph
    _check_chain(graph)
    server_s = problem.server_s.astype(float)
    for name, value in problem.return_s.items():
        if name in graph.producers:
            server_s[graph.producers[name]] += value
    here_s = np.append(0.0, np.cumsum(problem.device_s))
    there_s = np.append(np.cumsum(server_s[::-1])[::-1], 0.0) + problem.message_s
    sent = [graph.inputs, *(layer.outputs for layer in graph.layers[:-1])]
    sent_s = [sum(problem.transfer_s[n] for n in names if graph.consumers[n]) for names in sent]
    cost_s = here_s[:-1] + there_s[:-1] + sent_s
    point = int(cost_s.argmin()) if cost_s.min() < here_s[-1] else len(graph.layers)
    return partition_of(problem, frozenset(range(point)))


def _check_chain(graph: ModelGraph) -> None:
    before: set[str] = set(graph.inputs)
    for index, layer in enumerate(graph.layers):
        foreign = sorted(set(layer.inputs) - before)
        if foreign or (index > 0 and not layer.inputs):
            reads = f"reads {foreign[0]!r}" if foreign else "reads no data"
            raise CutError(
                f"{graph.name} is no chain: layer {layer.name!r} {reads}, not only the layer "
                f"before it; min_cut and two_stage cut any network"
            )
        before = set(layer.outputs)

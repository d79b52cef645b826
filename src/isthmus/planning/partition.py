"""The problem of cutting a network in two, and what a solution costs. It solves nothing.

An executable partition is a set of layers for the device that is closed downwards: with a layer,
all layers that it reads from. Solvers have a module each, and share one signature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.types.graph import ModelGraph

__all__ = [
    "Partition",
    "PartitionProblem",
    "StageCosts",
    "bottleneck_of",
    "check_costs",
    "check_covered",
    "check_message",
    "crossing_tensors",
    "cut_vertices",
    "partition_of",
    "stage_costs",
]


def check_costs(graph: ModelGraph, costs: Mapping[str, NDArray[np.float64]]) -> None:
    """Refuse costs by layer that are not one finite number, at least 0, for each layer.

    Raises:
        ValueError: With the name under which the costs were given.
    """
    count = len(graph.layers)
    for name, values in costs.items():
        if values.shape != (count,):
            raise ValueError(f"{name} has shape {values.shape}, expected ({count},)")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"{name} must be finite and not negative")


def check_covered(graph: ModelGraph, name: str, costs: Mapping[str, float]) -> None:
    """Refuse costs by tensor that leave out one that some layer reads, or are negative.

    Raises:
        ValueError: With the name under which the costs were given.
    """
    read = {tensor for tensor, readers in graph.consumers.items() if readers}
    if missing := sorted(read - costs.keys()):
        raise ValueError(f"{name} lacks {missing[0]!r}")
    if any(not value >= 0 for value in costs.values()):
        raise ValueError(f"{name} must not be negative")


def check_message(
    graph: ModelGraph, message_s: float, return_s: Mapping[str, float], *, where: str = ""
) -> None:
    """Refuse costs of a message, and of the outputs' way back, that are impossible or of no output.

    Raises:
        ValueError: With ``where`` behind the name of what is wrong.
    """
    if unknown := sorted(return_s.keys() - set(graph.outputs)):
        raise ValueError(f"return_s{where} names {unknown[0]!r}, which is no output")
    if any(not 0 <= value < math.inf for value in (message_s, *return_s.values())):
        raise ValueError(f"message_s and return_s{where} must be finite and not negative")


@dataclass(frozen=True, eq=False)
class PartitionProblem:
    """What each layer costs here and there, and what crossing costs.

    The device has the inputs. If any layer runs on the server, ``message_s`` is paid once; each
    tensor that crosses is paid once, however many layers read it; tensors do not flow back, but
    for the outputs made on the server, which cost ``return_s``.

    Attributes:
        graph: The network.
        device_s: float64 ``[n]``, seconds of each layer on the device.
        server_s: float64 ``[n]``, seconds of each layer on the server.
        transfer_s: Seconds to send each tensor that some layer reads, graph inputs included;
            infinite for a tensor that must not cross.
        message_s: Round trip and overhead of the message, seconds.
        return_s: Seconds that each graph output takes from the server; absent is 0.
    """

    graph: ModelGraph
    device_s: NDArray[np.float64]
    server_s: NDArray[np.float64]
    transfer_s: Mapping[str, float]
    message_s: float = 0.0
    return_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_costs(self.graph, {"device_s": self.device_s, "server_s": self.server_s})
        check_covered(self.graph, "transfer_s", self.transfer_s)
        check_message(self.graph, self.message_s, self.return_s)


@dataclass(frozen=True)
class Partition:
    """A solution.

    Attributes:
        tensors: Frontier tensors, sorted: what the server's layers read of the device's; empty
            if all layers run on the device.
        device_layers: Indices of the device's layers.
        cost_s: Its cost in float64, seconds: latency, or the bottleneck if the solver is one for
            streams; message and returns included.
        error_s: The optimum is not less than ``cost_s - error_s``; 0 if the solver is exact.
    """

    tensors: tuple[str, ...]
    device_layers: frozenset[int]
    cost_s: float
    error_s: float = 0.0


@dataclass(frozen=True)
class StageCosts:
    """What a partition costs each of the three that work for it, seconds.

    Attributes:
        device_s: The device's layers.
        link_s: The message, the tensors that cross, and the outputs' way back.
        server_s: The server's layers.
    """

    device_s: float
    link_s: float
    server_s: float

    @property
    def sum_s(self) -> float:
        """How long one request takes: its latency."""
        return self.device_s + self.link_s + self.server_s

    @property
    def most_s(self) -> float:
        """How long each request of a stream keeps the busiest: its *bottleneck*."""
        return max(self.device_s, self.link_s, self.server_s)


def stage_costs(problem: PartitionProblem, device: frozenset[int]) -> StageCosts:
    """Return what the partition with these layers on the device costs.

    Args:
        problem: The problem.
        device: Indices of the device's layers, closed downwards.
    """
    producers = problem.graph.producers
    is_here = np.zeros(len(problem.graph.layers), bool)
    is_here[list(device)] = True
    device_s = float(problem.device_s[is_here].sum())
    server_s = float(problem.server_s[~is_here].sum())
    if is_here.all():
        return StageCosts(device_s, 0.0, 0.0)
    sent_s = [problem.transfer_s[name] for name in crossing_tensors(problem.graph, device)]
    back_s = [
        value
        for name, value in problem.return_s.items()
        if name in producers and producers[name] not in device
    ]
    return StageCosts(device_s, sum([*sent_s, *back_s], problem.message_s), server_s)


def crossing_tensors(graph: ModelGraph, device: frozenset[int]) -> tuple[str, ...]:
    """Return what layers on the server read of the device's, sorted by name."""
    producers = graph.producers
    return tuple(
        sorted(
            name
            for name, readers in graph.consumers.items()
            if name not in producers or producers[name] in device
            if any(reader not in device for reader in readers)
        )
    )


def partition_of(problem: PartitionProblem, device: frozenset[int]) -> Partition:
    """Return the partition with these layers on the device; its cost is its latency."""
    tensors = crossing_tensors(problem.graph, device)
    return Partition(tensors, device, stage_costs(problem, device).sum_s)


def bottleneck_of(problem: PartitionProblem, device: frozenset[int]) -> Partition:
    """Return the partition with these layers on the device; its cost is its bottleneck."""
    tensors = crossing_tensors(problem.graph, device)
    return Partition(tensors, device, stage_costs(problem, device).most_s)


def cut_vertices(graph: ModelGraph, *, ignore_side_inputs: bool = False) -> tuple[int, ...]:
    """Return the layers that every path from an input to an output passes.

    Every edge spans the layers strictly between its ends, in topological order; a layer is a cut
    vertex if no edge spans it. A virtual layer in front feeds the readers of all inputs and the
    layers that read no data, one behind reads all outputs and what nobody reads, so several of
    each are allowed.

    Args:
        graph: The network.
        ignore_side_inputs: Whether graph inputs are not looked at where they meet other data, as
            a mask that many layers read. A layer found so still has all before it among its
            ancestors and all behind it among its descendants.

    Returns:
        Indices into ``graph.layers``, ascending. Complexity: O(layers + edges).

    References:
        Zhang et al., "Towards Real-time Cooperative Deep Inference over the Cloud and Edge End
        Devices" (QDMP), IMWUT 2020, for the notion; the procedure by edge spans is our own.
    """
    count = len(graph.layers)
    changes = [0] * (count + 2)  # difference array over how many edges span each layer
    edges = []
    for index, layer in enumerate(graph.layers):
        made = [graph.producers[name] for name in layer.inputs if name in graph.producers]
        edges += [(producer, index) for producer in made]
        if (len(made) < len(layer.inputs) and not (made and ignore_side_inputs)) or not made:
            edges.append((-1, index))
        if not any(graph.consumers[name] for name in layer.outputs):
            edges.append((index, count))
    edges += [(graph.producers.get(name, -1), count) for name in graph.outputs]
    for start, end in edges:
        changes[start + 1] += 1
        changes[end] -= 1
    spanned = 0
    found = []
    for index in range(count):
        spanned += changes[index]
        if spanned == 0:
            found.append(index)
    return tuple(found)

"""Cut a network in two at the least cost, exactly. It does not know where costs come from.

An executable partition is a set of layers for the device that is closed downwards: with a layer,
all layers that it reads from. ``min_cut`` and ``brute_force`` solve the same problem behind the
same signature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from isthmus.types.graph import ModelGraph

__all__ = ["Partition", "PartitionProblem", "brute_force", "cut_vertices", "min_cut"]

_BRUTE_FORCE_LAYERS = 20
_CAPACITY_LIMIT = 2**30
_ROUNDS = 4


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
        count = len(self.graph.layers)
        for name in ("device_s", "server_s"):
            costs = getattr(self, name)
            if costs.shape != (count,):
                raise ValueError(f"{name} has shape {costs.shape}, expected ({count},)")
            if not (np.isfinite(costs).all() and (costs >= 0).all()):
                raise ValueError(f"{name} must be finite and not negative")
        read = {name for name, readers in self.graph.consumers.items() if readers}
        if missing := sorted(read - self.transfer_s.keys()):
            raise ValueError(f"transfer_s lacks {missing[0]!r}")
        if unknown := sorted(self.return_s.keys() - set(self.graph.outputs)):
            raise ValueError(f"return_s names {unknown[0]!r}, which is no output")
        if any(not value >= 0 for value in self.transfer_s.values()):
            raise ValueError("transfer_s must not be negative")
        others = (self.message_s, *self.return_s.values())
        if any(not (math.isfinite(value) and value >= 0) for value in others):
            raise ValueError("message_s and return_s must be finite and not negative")


@dataclass(frozen=True)
class Partition:
    """A solution.

    Attributes:
        tensors: Frontier tensors, sorted: what the server's layers read of the device's; empty
            if all layers run on the device.
        device_layers: Indices of the device's layers.
        cost_s: Its cost in float64, message and returns included, seconds.
        error_s: The optimum is not less than ``cost_s - error_s``; 0 if the solver is exact.
    """

    tensors: tuple[str, ...]
    device_layers: frozenset[int]
    cost_s: float
    error_s: float = 0.0


def min_cut(problem: PartitionProblem) -> Partition:
    """Return a partition of least cost, by one or a few maximum flows.

    The source side of the cut is the device. A layer costs an arc from the source (cut if it is
    on the server) and one to the sink (cut if it is on the device). A tensor is an auxiliary
    vertex, so that it is paid once. Infinite arcs run against the data flow: without them a
    layer on the device could read from the server for nothing.

    ``message_s`` is not in the network. If the least cut leaves all layers on the device, no
    other can be better with the message; otherwise it is the best of those that cross, and is
    compared with all layers on the device, which wins ties.

    SciPy's flow is int32, so capacities are scaled to integers whose sum is below 2^30, and
    infinity is that sum plus one. No arc dearer than a known solution can be in a better cut, so
    capacities are clipped there first, and again while the solution found is far below. The
    cut is then costed in float64. Rounding can miss the optimum by ``Partition.error_s``: one
    integer unit for each arc.

    Complexity: O(V^2 E) in theory (Dinic), about linear on networks.

    References:
        Hu et al., "Dynamic Adaptive DNN Surgery" (DADS), INFOCOM 2019, for the construction.
        *Departs*: the arcs against the data flow, pinned inputs, the message, the way back.
    """
    everything = frozenset(range(len(problem.graph.layers)))
    free = replace(problem, message_s=0.0)
    best = min(_partition(free, everything), _partition(free, frozenset()), key=_cost_s)
    error_s = 0.0
    for _ in range(_ROUNDS):
        bound_s = best.cost_s
        if bound_s == 0:
            error_s = 0.0
            break
        device, error_s = _least_cut(free, bound_s)
        best = min(best, _partition(free, device), key=_cost_s)
        if best.cost_s > bound_s / 2:
            break
    found = (_partition(problem, layers) for layers in (everything, best.device_layers))
    return replace(min(found, key=_cost_s), error_s=error_s)


def brute_force(problem: PartitionProblem) -> Partition:
    """Return a partition of least cost by trying all; ties go to all layers on the device.

    Complexity: O(2^n) for n layers that do not depend on each other.

    Raises:
        ValueError: If there are more than 20 layers.
    """
    count = len(problem.graph.layers)
    if count > _BRUTE_FORCE_LAYERS:
        raise ValueError(f"{count} layers are too many for brute force")
    best = _partition(problem, frozenset(range(count)))
    for device in _closed_sets(problem.graph):
        best = min(best, _partition(problem, device), key=_cost_s)
    return best


def cut_vertices(graph: ModelGraph) -> tuple[int, ...]:
    """Return the layers that every path from an input to an output passes.

    Every edge spans the layers strictly between its ends, in topological order; a layer is a cut
    vertex if no edge spans it. A virtual layer in front feeds the readers of all inputs and the
    layers that read no data, one behind reads all outputs, so several of each are allowed.

    Args:
        graph: The network; every layer is needed by some output.

    Returns:
        Indices into ``graph.layers``, ascending. Complexity: O(layers + edges).

    References:
        Zhang et al., "Towards Real-time Cooperative Deep Inference over the Cloud and Edge End
        Devices" (QDMP), IMWUT 2020, for the notion; the procedure by edge spans is our own.
    """
    count = len(graph.layers)
    changes = [0] * (count + 2)  # difference array over how many edges span each layer
    edges = [
        (graph.producers.get(name, -1), reader)
        for name, readers in graph.consumers.items()
        for reader in readers
    ]
    edges += [(-1, index) for index, layer in enumerate(graph.layers) if not layer.inputs]
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


def _cost_s(found: Partition) -> float:
    return found.cost_s


def _partition(problem: PartitionProblem, device: frozenset[int]) -> Partition:
    """Return the partition with these layers on the device, and what it costs."""
    graph = problem.graph
    count = len(graph.layers)
    tensors = tuple(
        sorted(
            name
            for name, readers in graph.consumers.items()
            if graph.producers.get(name, -1) in device or name in graph.inputs
            if any(reader not in device for reader in readers)
        )
    )
    is_here = np.zeros(count, bool)
    is_here[list(device)] = True
    cost_s = float(np.where(is_here, problem.device_s, problem.server_s).sum())
    if len(device) < count:
        cost_s += problem.message_s + sum(problem.transfer_s[name] for name in tensors)
        cost_s += sum(
            value
            for name, value in problem.return_s.items()
            if graph.producers.get(name, -1) not in device and name not in graph.inputs
        )
    return Partition(tensors, device, cost_s)


def _least_cut(problem: PartitionProblem, bound_s: float) -> tuple[frozenset[int], float]:
    """Return the device's layers of a minimum cut, and what rounding can cost, seconds.

    Args:
        problem: Its ``message_s`` is not looked at.
        bound_s: Cost of a known solution, positive; dearer arcs are clipped to it.
    """
    finite, infinite = _arcs(problem)
    count = len(problem.graph.layers)
    exact_s = np.minimum(np.array(list(finite.values())), bound_s)
    total_s = float(exact_s.sum())
    room = _CAPACITY_LIMIT - 1 - len(finite)  # rounding up adds less than one for each arc
    capacities = np.rint(exact_s / total_s * room).astype(np.int32)
    infinity = int(capacities.sum(dtype=np.int64)) + 1
    if not 1 < infinity <= _CAPACITY_LIMIT:
        raise AssertionError(f"capacities sum to {infinity - 1}: the flow would overflow")
    heads, tails = np.array([*finite, *infinite], np.int32).T
    values = np.concatenate([capacities, np.full(len(infinite), infinity, np.int32)])
    size = int(max(heads.max(), tails.max())) + 1
    network = csr_matrix((values, (heads, tails)), shape=(size, size), dtype=np.int32)
    network.eliminate_zeros()
    source, sink = count, count + 1
    residual = network - maximum_flow(network, source, sink).flow
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    device = frozenset(int(vertex) for vertex in reached if vertex < count)
    return device, total_s / room * len(finite)


def _arcs(
    problem: PartitionProblem,
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], None]]:
    """Return the finite arcs with their cost, and the infinite ones.

    Vertices: the layers by their index, then the source, the sink and one for each tensor read.
    """
    graph = problem.graph
    source, sink = len(graph.layers), len(graph.layers) + 1
    finite: dict[tuple[int, int], float] = {}
    infinite: dict[tuple[int, int], None] = {}
    server_s, device_s = problem.server_s.tolist(), problem.device_s.tolist()
    for name, value in problem.return_s.items():
        if name in graph.producers:
            server_s[graph.producers[name]] += value
    for layer in range(source):
        finite[source, layer] = server_s[layer]
        finite[layer, sink] = device_s[layer]
    read = [(name, readers) for name, readers in graph.consumers.items() if readers]
    for vertex, (name, readers) in enumerate(read, start=sink + 1):
        producer = graph.producers.get(name, source)
        if math.isinf(problem.transfer_s[name]):
            infinite[producer, vertex] = None
        else:
            finite[producer, vertex] = problem.transfer_s[name]
        for reader in readers:
            infinite[vertex, reader] = None
            if producer != source:
                infinite[reader, producer] = None
    return finite, infinite


def _closed_sets(graph: ModelGraph) -> Iterator[frozenset[int]]:
    """Yield every set of layers that is closed downwards."""
    needs = [
        {graph.producers[name] for name in layer.inputs if name in graph.producers}
        for layer in graph.layers
    ]
    pending: list[tuple[int, frozenset[int]]] = [(0, frozenset())]
    while pending:
        index, device = pending.pop()
        if index == len(needs):
            yield device
            continue
        pending.append((index + 1, device))
        if needs[index] <= device:
            pending.append((index + 1, device | {index}))

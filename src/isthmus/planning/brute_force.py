"""Cut a network in two by trying all ways: the oracle of the other solvers, for small networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from isthmus.planning.partition import Partition, PartitionProblem, bottleneck_of, partition_of
from isthmus.types.graph import ModelGraph

__all__ = ["brute_force", "brute_force_min_max", "closed_sets"]

_MOST_LAYERS = 20


def brute_force(problem: PartitionProblem) -> Partition:
    """Return a partition of least latency by trying all; ties go to all layers on the device.

    Complexity: O(2^n) for n layers that do not depend on each other.

    Raises:
        ValueError: If there are more than 20 layers.
    """
    return _best(problem, partition_of)


def brute_force_min_max(problem: PartitionProblem) -> Partition:
    """Return a partition of least bottleneck by trying all; otherwise as ``brute_force``."""
    return _best(problem, bottleneck_of)


def _best(
    problem: PartitionProblem, costed: Callable[[PartitionProblem, frozenset[int]], Partition]
) -> Partition:
    best = costed(problem, frozenset(range(len(problem.graph.layers))))
    for device in closed_sets(problem.graph):
        best = min(best, costed(problem, device), key=lambda found: found.cost_s)
    return best


def closed_sets(graph: ModelGraph) -> Iterator[frozenset[int]]:
    """Yield every set of layers that is closed downwards.

    Raises:
        ValueError: If there are more than 20 layers.
    """
    if len(graph.layers) > _MOST_LAYERS:
        raise ValueError(f"{len(graph.layers)} layers are too many for brute force")
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

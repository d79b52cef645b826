"""Cut a network in two by trying all ways: the oracle of the other solvers, for small networks."""

from __future__ import annotations

from collections.abc import Iterator

from isthmus.planning.partition import Partition, PartitionProblem, partition_of
from isthmus.types.graph import ModelGraph

__all__ = ["brute_force"]

_MOST_LAYERS = 20


def brute_force(problem: PartitionProblem) -> Partition:
    """Return a partition of least cost by trying all; ties go to all layers on the device.

    Complexity: O(2^n) for n layers that do not depend on each other.

    Raises:
        ValueError: If there are more than 20 layers.
    """
    count = len(problem.graph.layers)
    if count > _MOST_LAYERS:
        raise ValueError(f"{count} layers are too many for brute force")
    best = partition_of(problem, frozenset(range(count)))
    for device in _closed_sets(problem.graph):
        best = min(best, partition_of(problem, device), key=lambda found: found.cost_s)
    return best


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

"""Cut a network in two at the least cost, exactly. It does not know where costs come from.

An executable partition is a set of layers for the device that is closed downwards: with a layer,
all layers that it reads from. ``min_cut`` and ``brute_force`` solve the same problem behind the
same signature.
"""

from __future__ import annotations

from isthmus.types.graph import ModelGraph

__all__ = ["cut_vertices"]


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

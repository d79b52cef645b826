"""The parts of a network between cut vertices, of which every partition divides one at most.

A cut vertex on the device has all layers before it there, too; one on the server has all behind
it there. So if a partition's last cut vertex on the device is known, only the layers up to the
next one are free. What dividing them costs is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.planning.partition import cut_vertices
from isthmus.types.graph import ModelGraph

__all__ = ["Segment", "segments_of"]


@dataclass(frozen=True)
class Segment:
    """Free layers; those before them are on the device, those behind them on the server.

    Attributes:
        free: Indices of the free layers; may be empty.
        crossing: Tensors that cross wherever the free layers are: they are there before these,
            and are read behind them.
        entering: Tensors made by the cut vertex before the free layers and read by these alone;
            empty in the first segment, where graph inputs take their place.
    """

    free: range
    crossing: tuple[str, ...]
    entering: tuple[str, ...]


def segments_of(graph: ModelGraph) -> tuple[Segment, ...]:
    """Return the segments in order; all layers before the last free ones make a partition each.

    Every partition, but for all layers on the device, keeps to exactly one of them. Graph inputs
    that meet other data are not looked at when cut vertices are searched for: they are on the
    device in any case.

    Complexity: O(layers + edges + segments * graph inputs).

    References:
        Zhang et al. (QDMP), IMWUT 2020, for the notion. *Departs*: several inputs and outputs,
        side inputs, layers that read no data.
    """
    count = len(graph.layers)
    starts = [0, *(vertex + 1 for vertex in cut_vertices(graph, ignore_side_inputs=True))]
    stops = [start - 1 for start in starts[1:]]
    if starts[-1] < count:
        stops.append(count)
    inputs = {name: graph.consumers[name][-1] for name in graph.inputs if graph.consumers[name]}
    found = []
    for start, stop in zip(starts[: len(stops)], stops, strict=True):
        made = graph.layers[start - 1].outputs if start else ()
        last = {name: graph.consumers[name][-1] for name in made if graph.consumers[name]}
        crossing = [name for name, reader in (inputs | last).items() if reader >= stop]
        entering = [name for name, reader in last.items() if reader < stop]
        found.append(Segment(range(start, stop), tuple(crossing), tuple(entering)))
    return tuple(found)

"""Cut one segment of a network: the layers between two cut vertices. It knows no other segment.

The layer before the segment (or the graph's inputs) is on the device, the one behind it on the
server; the free layers in between are divided by a minimum cut. The network of arcs is laid out
once, and only its capacities change with the conditions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.flow import FlowNetwork

__all__ = ["Crossing", "SegmentCut", "SegmentNetwork"]

_Costs = NDArray[np.float64]


@dataclass(frozen=True)
class Crossing:
    """A tensor that may cross inside a segment, by the segment's own numbering of layers.

    Attributes:
        producer: The free layer that makes it; -1 if it is there before the segment.
        readers: The free layers that read it.
        is_read_behind: Whether a layer behind the segment reads it, too.
        costs: Seconds of encoding, bytes and seconds of decoding if it crosses; infinite bytes if
            it must not.
    """

    producer: int
    readers: tuple[int, ...]
    is_read_behind: bool
    costs: tuple[float, float, float]


@dataclass(frozen=True)
class SegmentCut:
    """What a minimum cut found.

    Attributes:
        on_device: bool ``[free layers]``; ``None`` if no cut is cheaper than asked for.
        least: No cut of the segment costs less, in the units of the weights.
    """

    on_device: NDArray[np.bool_] | None
    least: float


class SegmentNetwork:
    """The free layers of a segment as a flow network; the device is the source's side.

    A tensor that only free layers read has a vertex of its own, so that it is paid once. One that
    is also read behind the segment crosses if and only if its producer is on the device.
    Infinite arcs run against the data flow.
    """

    def __init__(self, device_s: _Costs, server_s: _Costs, crossings: tuple[Crossing, ...]) -> None:
        """Lay the network out.

        Args:
            device_s: float64 ``[free layers]``, seconds of each on the device.
            server_s: The same on the server.
            crossings: All tensors made before the segment or in it and read in it or behind.
        """
        count = len(device_s)
        self._device_s, self._server_s = device_s, server_s
        self._crossings = crossings
        self.always = np.zeros(3)  # what crosses wherever the segment is cut
        source, sink, size = count, count + 1, count + 2
        arcs: list[tuple[int, int]] = [(source, i) for i in range(count)]
        arcs += [(i, sink) for i in range(count)]
        costs: list[tuple[float, float, float]] = []
        infinite: list[tuple[int, int]] = []
        for tensor in crossings:
            producer = source if tensor.producer < 0 else tensor.producer
            if tensor.is_read_behind:
                if producer == source:
                    self.always += tensor.costs
                else:
                    arcs.append((producer, sink))
                    costs.append(tensor.costs)
            elif len(tensor.readers) == 1:
                arcs.append((producer, tensor.readers[0]))
                costs.append(tensor.costs)
            else:
                arcs.append((producer, size))
                costs.append(tensor.costs)
                infinite += [(size, reader) for reader in tensor.readers]
                size += 1
            if producer != source:
                infinite += [(reader, producer) for reader in tensor.readers]
        self._tensor_costs = np.array(costs, float).reshape(-1, 3)
        sizes = [t.costs[1] for t in crossings if np.isfinite(t.costs[1])]
        self.most_bytes = sum(sizes) + 1.0  # no cut that is allowed has as many
        self._infinite = np.full(len(infinite), np.inf)
        self._flow = FlowNetwork(arcs + infinite, source=source, sink=sink)

    def floor(self, weights: _Costs) -> float:
        """Return what no cut can cost less than, by looking at each layer alone.

        Args:
            weights: float64 ``[3]``, of device seconds, bytes and server seconds.
        """
        here, there = self._device_s * weights[0], self._server_s * weights[2]
        return float(np.minimum(here, there).sum() + self.always @ weights)

    def cut(self, weights: _Costs, bound: float) -> SegmentCut:
        """Return a least cut if one costs less than ``bound``.

        Each layer's smaller cost is paid anyhow and left out of the flow.

        Args:
            weights: float64 ``[3]``, of device seconds, bytes and server seconds.
            bound: What the cut must stay below.
        """
        floor = self.floor(weights)
        room = bound - floor
        if not room > 0:
            return SegmentCut(None, floor)
        here, there = self._device_s * weights[0], self._server_s * weights[2]
        paid = np.minimum(here, there)
        with np.errstate(invalid="ignore"):
            tensors = np.nan_to_num(self._tensor_costs * weights, nan=np.inf).sum(axis=1)
        capacities = np.concatenate([there - paid, here - paid, tensors, self._infinite])
        found = self._flow.cut(capacities, below=room)
        if found is None:
            return SegmentCut(None, bound)
        return SegmentCut(found.is_source_side[: len(paid)], floor + found.least)

    def divisions(self, limit: int) -> Iterator[NDArray[np.bool_]]:
        """Yield up to ``limit`` ways to divide the segment, those with few layers here first.

        The one with no free layer on the device is left out.
        """
        count = len(self._device_s)
        needs: list[set[int]] = [set() for _ in range(count)]
        for tensor in self._crossings:
            for reader in tensor.readers:
                needs[reader] |= {tensor.producer} - {-1}
        pending = deque([frozenset[int]()])
        left = limit
        while pending:
            device = pending.popleft()
            for layer in range(max(device, default=-1) + 1, count):
                if needs[layer] <= device and left:
                    left -= 1
                    grown = device | {layer}
                    pending.append(grown)
                    yield np.isin(np.arange(count), list(grown))

    def costs(self, on_device: NDArray[np.bool_]) -> _Costs:
        """Return seconds here, bytes and seconds there of the segment cut so, float64 ``[3]``."""
        total = self.always.copy()
        total[0] += self._device_s[on_device].sum()
        total[2] += self._server_s[~on_device].sum()
        for tensor in self._crossings:
            if tensor.producer < 0:
                crosses = not tensor.is_read_behind and not on_device[list(tensor.readers)].all()
            else:
                crosses = bool(on_device[tensor.producer]) and (
                    tensor.is_read_behind or not on_device[list(tensor.readers)].all()
                )
            if crosses:
                total += tensor.costs
        return total

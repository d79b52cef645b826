"""Cut one segment of a network: the layers between two cut vertices. It knows no other segment.

The layer before the segment (or the graph's inputs) is on the device, the one behind it on the
server; the free layers in between are divided by a minimum cut. The network of arcs is laid out
once, and only its capacities change with the conditions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

__all__ = ["Crossing", "SegmentCut", "SegmentNetwork"]

_CAPACITY = 2**29
"""What the bound on a cut becomes in SciPy's int32; an arc and its reverse stay below 2^31."""

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
        source, sink, self._root = count, count + 1, count + 2
        arcs: list[tuple[int, int]] = [(source, i) for i in range(count)]
        arcs += [(i, sink) for i in range(count)]
        costs: list[tuple[float, float, float]] = []
        infinite: list[tuple[int, int]] = [(self._root, source)]
        size = count + 3
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
        self._lay_out(np.array(arcs + infinite, np.int64), len(arcs), size)

    def _lay_out(self, arcs: NDArray[np.int64], finite: int, size: int) -> None:
        """Number all arcs and their reverses in the order of a sparse matrix's rows."""
        both = np.concatenate([arcs, arcs[:, ::-1]])
        keys, places = np.unique(both[:, 0] * size + both[:, 1], return_inverse=True)
        rows = keys // size
        self._columns = (keys % size).astype(np.int32)
        self._starts = np.searchsorted(rows, np.arange(size + 1)).astype(np.int32)
        self._finite, self._infinite = places[:finite], places[finite : len(arcs)]
        self._size = size

    def floor(self, weights: _Costs) -> float:
        """Return what no cut can cost less than, by looking at each layer alone.

        Args:
            weights: float64 ``[3]``, of device seconds, bytes and server seconds.
        """
        here, there = self._device_s * weights[0], self._server_s * weights[2]
        return float(np.minimum(here, there).sum() + self.always @ weights)

    def cut(self, weights: _Costs, bound: float) -> SegmentCut:
        """Return a least cut if one costs less than ``bound``.

        Each layer's smaller cost is paid anyhow and left out. The rest is scaled so that what is
        left of ``bound`` is 2^29 and *rounded down*: the flow is then a lower bound on every cut,
        without error, and cannot overflow, since one arc at the source ends it there.

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
        exact = np.bincount(
            self._finite,
            np.minimum(np.concatenate([there - paid, here - paid, tensors]), room),
            minlength=len(self._columns),
        )
        capacities = np.floor(np.minimum(exact / room, 1.0) * _CAPACITY).astype(np.int32)
        capacities[self._infinite] = _CAPACITY
        shape = (self._size, self._size)
        network = csr_matrix((capacities, self._columns, self._starts), shape=shape)
        sink = len(self._device_s) + 1
        found = maximum_flow(network, self._root, sink)
        if found.flow_value >= _CAPACITY:
            return SegmentCut(None, bound)
        residual = network - found.flow
        residual.eliminate_zeros()
        reached = breadth_first_order(residual, self._root, return_predecessors=False)
        on_device = np.zeros(self._size, bool)
        on_device[reached] = True
        least = floor + found.flow_value / _CAPACITY * room
        return SegmentCut(on_device[: len(self._device_s)], least)

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

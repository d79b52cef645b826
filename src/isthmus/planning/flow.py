"""The least cut of a network of arcs with real capacities. It knows nothing of layers and sites.

The only importer of SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

__all__ = ["Arc", "FlowCut", "FlowNetwork"]

Arc = tuple[int, int]
"""From a vertex to a vertex; vertices are numbers from 0 on."""

_CAPACITY = 2**29
"""What the bound on a cut becomes in SciPy's int32; an arc and its reverse stay below 2^31."""

_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class FlowCut:
    """A cut between source and sink.

    Attributes:
        is_source_side: bool ``[vertices]``, which are on the source's side.
        value: Capacity in float64 of the arcs that lead from this side to the other.
        least: No cut is less than this.
    """

    is_source_side: NDArray[np.bool_]
    value: float
    least: float


class FlowNetwork:
    """Arcs between a source and a sink, laid out once; only their capacities change."""

    def __init__(self, arcs: Sequence[Arc], *, source: int, sink: int) -> None:
        """Number all arcs and their reverses in the order of a sparse matrix's rows.

        Args:
            arcs: Any number from one vertex to another; parallel ones are added up.
            source: Vertex at which the flow begins.
            sink: Vertex at which it ends.
        """
        self._arcs = np.array(arcs, np.int64)
        self._root = int(max(self._arcs.max(), source, sink)) + 1
        self._sink = sink
        size = self._root + 1
        rooted = np.concatenate([self._arcs, [(self._root, source)]])
        both = np.concatenate([rooted, rooted[:, ::-1]])
        keys, places = np.unique(both[:, 0] * size + both[:, 1], return_inverse=True)
        self._places = places[: len(rooted)]
        self._columns = (keys % size).astype(np.int32)
        self._starts = np.searchsorted(keys // size, np.arange(size + 1)).astype(np.int32)

    def cut(self, capacities: NDArray[np.float64], *, below: float) -> FlowCut | None:
        """Return a least cut if it is less than ``below``, by one or a few maximum flows.

        SciPy's flow is int32 and overflows silently. So capacities are clipped to the bound,
        scaled such that it becomes 2^29, and rounded down; one arc before the source ends the
        flow there, which then is a lower bound on every cut. The cut found is valued in
        float64. If it is far less than the bound, its value is the next bound.

        Args:
            capacities: float64 ``[arcs]``, not negative; infinite for an arc that must not be cut.
            below: What the cut must stay below; the value of a cut already known, for example.

        Returns:
            The cut, within a 2^-28th for each of its arcs; ``None`` only if there is none.
            Complexity: O(V^2 E) in theory, about linear on networks.

        References:
            Dinic, "Algorithm for solution of a problem of maximum flow in networks with power
            estimation", 1970, in SciPy's implementation. *Departs*: real capacities.
        """
        best, bound = None, below
        for _ in range(_ROUNDS):
            found = self._rounded_cut(capacities, bound)
            if found is None:
                return best and replace(best, least=bound)
            best, is_near = found, found.value > bound / 2
            bound = found.value
            if is_near:
                break
        return best

    def _rounded_cut(self, capacities: NDArray[np.float64], bound: float) -> FlowCut | None:
        if not bound > 0:
            return None
        clipped = np.append(np.minimum(capacities, bound), bound)
        shares = np.bincount(self._places, clipped / bound, len(self._columns))
        rounded = np.floor(np.minimum(shares, 1) * _CAPACITY).astype(np.int32)
        size = self._root + 1
        network = csr_matrix((rounded, self._columns, self._starts), shape=(size, size))
        flow = maximum_flow(network, self._root, self._sink)
        if flow.flow_value >= _CAPACITY:
            return None
        residual = network - flow.flow
        residual.eliminate_zeros()
        side = np.zeros(size, bool)
        side[breadth_first_order(residual, self._root, return_predecessors=False)] = True
        is_cut = side[self._arcs[:, 0]] & ~side[self._arcs[:, 1]]
        value = float(capacities[is_cut].sum())
        return FlowCut(side[:-1], value, min(value, flow.flow_value / _CAPACITY * bound))

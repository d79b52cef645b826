"""Cut a network in two by cut vertices first, and by a minimum cut only inside segments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from isthmus.planning.min_cut import cut_free_layers
from isthmus.planning.partition import Partition, PartitionProblem, partition_of
from isthmus.planning.segments import Segment, segments_of

__all__ = ["two_stage", "two_stage_published"]


def two_stage(problem: PartitionProblem) -> Partition:
    """Return a partition of least latency, cutting only the segments that can hold it.

    First stage: every partition that divides no segment is costed, by running sums. Second: no
    partition inside a segment costs less than what is paid around it, the cheaper side of
    each free layer, and the cheapest tensors that may cross. Segments are visited in the order
    of this bound, and a minimum cut divides their free layers, until the bound is no less than
    the best partition's cost. All layers on the device win ties, then partitions that
    divide no segment, with fewer layers on the device first.

    Complexity: O(layers + edges), plus the minimum cuts of the segments visited.

    References:
        Zhang et al., "Towards Real-time Cooperative Deep Inference over the Cloud and Edge End
        Devices" (QDMP), IMWUT 2020. *Departs*: it looks at all segments that a lower bound does
        not rule out, so it is exact.
    """
    stages = _Stages(problem)
    return stages.best_within(range(len(stages.segments)))


def two_stage_published(problem: PartitionProblem) -> Partition:
    """Return the best partition at a cut vertex, or in the two segments beside that.

    The optimum may lie in another segment; then this is not optimal, and does not know it:
    ``Partition.error_s`` is only that of the segments looked at. For comparisons.

    References:
        Zhang et al. (QDMP), IMWUT 2020: the optimum lies "between two adjacent cut vertices". The
        choice of the pair was not published in what we could read; this is the natural reading.
        *Departs*: nothing else than ``two_stage`` does.
    """
    stages = _Stages(problem)
    best = stages.best_whole
    beside = range(max(best - 1, 0), min(best + 1, len(stages.segments)))
    return stages.best_within(beside)


@dataclass(frozen=True)
class _Bounds:
    """What a segment costs: ``around_s`` is paid anyhow, and no partition is below ``floor_s``."""

    around_s: float
    floor_s: float


class _Stages:
    """A problem after its first stage."""

    def __init__(self, problem: PartitionProblem) -> None:
        self._problem = problem
        graph, count = problem.graph, len(problem.graph.layers)
        self.segments = segments_of(graph)
        server_s = problem.server_s.astype(float)
        for name, value in problem.return_s.items():
            if name in graph.producers:
                server_s[graph.producers[name]] += value
        cheaper_s = np.minimum(problem.device_s, server_s)
        self._here_s = np.append(0.0, np.cumsum(problem.device_s)).tolist()
        self._there_s = np.append(np.cumsum(server_s[::-1])[::-1], 0.0).tolist()
        self._cheaper_s = [0.0, *accumulate(cheaper_s.tolist())]
        self._bounds = [self._bounds_of(segment) for segment in self.segments]
        # One partition before the free layers of each segment, and all layers on the device.
        self._whole = [segment.free.start for segment in self.segments] + [count]
        whole_s = [self._all_there_s(segment) for segment in self.segments]
        whole_s.append(float(problem.device_s.sum()))
        self.best_whole = min(range(len(whole_s)), key=lambda i: (whole_s[i], i < len(whole_s) - 1))
        self._best_s = whole_s[self.best_whole]

    def best_within(self, places: Iterable[int]) -> Partition:
        """Return the best partition among those at cut vertices and those in some segments."""
        device = frozenset(range(self._whole[self.best_whole]))
        best_s, error_s = self._best_s, 0.0
        divisible = [place for place in places if self.segments[place].free]
        for place in sorted(divisible, key=lambda place: self._bounds[place].floor_s):
            bounds, free = self._bounds[place], self.segments[place].free
            if not bounds.floor_s < best_s:
                break
            cut = cut_free_layers(self._problem, free, below_s=best_s - bounds.around_s)
            if cut is not None:
                error_s = max(error_s, cut.error_s)
                if bounds.around_s + cut.cost_s < best_s:
                    device = frozenset(range(free.start)) | cut.device_layers
                    best_s = bounds.around_s + cut.cost_s
        return replace(partition_of(self._problem, device), error_s=error_s)

    def _bounds_of(self, segment: Segment) -> _Bounds:
        transfer_s, free = self._problem.transfer_s, segment.free
        around_s = sum(
            (transfer_s[name] for name in segment.crossing),
            self._problem.message_s + self._here_s[free.start] + self._there_s[free.stop],
        )
        floor_s = around_s + self._cheaper_s[free.stop] - self._cheaper_s[free.start]
        return _Bounds(around_s, floor_s * (1 - 1e-12) + self._least_crossing_s(segment))

    def _least_crossing_s(self, segment: Segment) -> float:
        """Return the least that crosses beside what always does, if free layers are divided.

        Data runs from the cut vertex before the segment to each layer in it and to the cut
        vertex behind; on each way something crosses. If it were the same tensor on all ways, its
        layer would be a cut vertex inside, or no free layer on the device. So two tensors cross,
        unless one that always does is among them or there is no cut vertex behind.
        """
        graph, free = self._problem.graph, segment.free
        if not segment.entering:
            return 0.0
        made = [name for i in free for name in graph.layers[i].outputs if graph.consumers[name]]
        least_s = sorted(self._problem.transfer_s[name] for name in (*segment.entering, *made))
        is_shared = any(name in graph.producers for name in segment.crossing)
        return sum(least_s[:1] if is_shared or free.stop == len(graph.layers) else least_s[:2])

    def _all_there_s(self, segment: Segment) -> float:
        """Return what it costs to have all free layers on the server, too."""
        graph, transfer_s = self._problem.graph, self._problem.transfer_s
        read = {name for i in segment.free for name in graph.layers[i].inputs}
        before = [
            name
            for name in read.difference(segment.crossing)
            if graph.producers.get(name, -1) < segment.free.start
        ]
        start = segment.free.start
        around_s = self._problem.message_s + self._here_s[start] + self._there_s[start]
        return float(around_s + sum(transfer_s[name] for name in (*segment.crossing, *before)))

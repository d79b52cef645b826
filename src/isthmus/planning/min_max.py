"""Cut a network in two for a stream: the busiest of device, link and server works least.

Requests follow one another, and the three work on different ones at a time, so that the stream's
pace is that of the busiest: the *bottleneck*. Queueing is not looked at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace

import numpy as np

from isthmus.planning.min_cut import min_cut
from isthmus.planning.partition import Partition, PartitionProblem, bottleneck_of
from isthmus.planning.segments import Segment, segments_of

__all__ = ["min_max"]

_MOST_LABELS = 20_000


def min_max(problem: PartitionProblem) -> Partition:
    """Return a partition of least bottleneck, by dynamic programming over down-closed sets.

    The link's part is all that it is paid: the message, the tensors that cross, the outputs' way
    back; requests do not overlap on it. ``Partition.cost_s`` is the bottleneck.

    A partition divides one segment between cut vertices at most. In each segment, the free
    layers go to the device or to the server one after another. Two beginnings that agree on
    where the tensors still to be read are, and on which are paid, have the same continuations:
    of these, those worse in device, link *and* server are forgotten, and so are those that
    cannot be better than a known partition. Segments are visited in the order of their lower
    bounds. All layers on the device win ties.

    The problem is NP-hard (two free layers side by side already make it a partition problem), so
    the beginnings may become too many. If more than 20,000 are left, the most promising are
    kept, and ``Partition.error_s`` is the proven distance to what the others might have given.
    It is 0 otherwise.

    References:
        Hu et al. (DADS), INFOCOM 2019, problem ECDI-H. *Departs*: exact; pinned inputs, the
        message and the way back count. Pareto labels as in Hansen, "Bicriterion path problems",
        1980.
    """
    everything = frozenset(range(len(problem.graph.layers)))
    segments = segments_of(problem.graph)
    known = [bottleneck_of(problem, everything)]
    known.append(bottleneck_of(problem, min_cut(problem).device_layers))
    best = min(known, key=lambda found: found.cost_s)
    weights = _weights(problem)
    searches = sorted((_Search(problem, s, weights) for s in segments), key=lambda s: s.floor_s)
    least_s = best.cost_s
    for search in searches:
        if not search.floor_s < best.cost_s:
            break
        device, forgotten_s = search.best(below_s=best.cost_s)
        least_s = min(least_s, forgotten_s)
        if device is not None:
            best = min(best, bottleneck_of(problem, device), key=lambda found: found.cost_s)
    return replace(best, error_s=max(0.0, best.cost_s - least_s))


def _weights(problem: PartitionProblem) -> tuple[float, float]:
    """Return weights, of sum 1, of device and server under which all layers cost the same there.

    The weighted mean of the two is no more than the greater of the two.
    """
    here_s, there_s = float(problem.device_s.sum()), float(problem.server_s.sum())
    if here_s + there_s == 0:
        return (0.5, 0.5)
    return there_s / (here_s + there_s), here_s / (here_s + there_s)


@dataclass(frozen=True)
class _Label:
    """A beginning: where the layers so far are, and what that costs.

    Attributes:
        costs_s: Device, link and server, each with what is paid around the segment.
        here: Bits of the free layers on the device that are still read from.
        paid: Bits of the tensors that cross and are still read.
        chosen: Bits of all free layers on the device.
    """

    costs_s: tuple[float, float, float]
    here: int
    paid: int
    chosen: int


class _Search:
    """One segment.

    Attributes:
        floor_s: No partition that keeps to it has a smaller bottleneck.
    """

    def __init__(
        self, problem: PartitionProblem, segment: Segment, weights: tuple[float, float]
    ) -> None:
        graph, free = problem.graph, segment.free
        self._free, self._weights = free, weights
        self._device_s = problem.device_s[free.start : free.stop].tolist()
        self._server_s = problem.server_s[free.start : free.stop].tolist()
        self._return_s = [0.0] * len(free)
        link_s = problem.message_s + sum(problem.transfer_s[name] for name in segment.crossing)
        for name, value in problem.return_s.items():
            producer = graph.producers.get(name, -1)
            if producer in free:
                self._return_s[producer - free.start] += value
            elif producer >= free.stop:
                link_s += value
        self._start = _Label(
            (
                float(problem.device_s[: free.start].sum()),
                link_s,
                float(problem.server_s[free.stop :].sum()),
            ),
            0, 0, 0,
        )  # fmt: skip
        cheaper_s = np.minimum(
            weights[0] * problem.device_s[free.start : free.stop],
            weights[1] * problem.server_s[free.start : free.stop],
        )
        rest_s = np.append(np.cumsum(cheaper_s[::-1])[::-1], 0.0) * (1 - 1e-12)
        self._rest_s = rest_s.tolist()
        self.floor_s = self._floor_s(self._start, 0)
        self._lay_out_tensors(problem, segment)

    def _lay_out_tensors(self, problem: PartitionProblem, segment: Segment) -> None:
        """Note what each free layer reads: bit and cost of each tensor, and who makes it."""
        graph, free = problem.graph, segment.free
        fixed, bits = set(segment.crossing), dict[str, int]()
        self._reads: list[list[tuple[int, int, float]]] = []  # producer's bit or 0, own bit, cost
        self._needs: list[int] = []
        self._live_layers, self._live_tensors = [0] * len(free), [0] * len(free)
        for i in free:
            reads, needs = [], 0
            for name in dict.fromkeys(graph.layers[i].inputs):
                producer = graph.producers.get(name, -1) - free.start
                made_by = 1 << producer if producer >= 0 else 0
                needs |= made_by
                if name not in fixed:
                    own = bits.setdefault(name, 1 << len(bits))
                    reads.append((made_by, own, problem.transfer_s[name]))
            self._reads.append(reads)
            self._needs.append(needs)
        # What the next cut vertex, on the server, reads of the free layers.
        self._read_behind: list[tuple[int, int, float]] = []
        for i in free:
            for name in graph.layers[i].outputs:
                if graph.consumers[name] and graph.consumers[name][-1] >= free.stop:
                    own = bits.setdefault(name, 1 << len(bits))
                    made_by = 1 << (i - free.start)
                    self._read_behind.append((made_by, own, problem.transfer_s[name]))
        layers = tensors = 0
        for made_by, own, _ in self._read_behind:
            layers, tensors = layers | made_by, tensors | own
        for place in reversed(range(len(free))):
            self._live_layers[place], self._live_tensors[place] = layers, tensors
            for made_by, own, _ in self._reads[place]:
                layers, tensors = layers | made_by, tensors | own

    def _floor_s(self, label: _Label, place: int) -> float:
        """Return what no continuation of a label from the free layer at ``place`` is below."""
        device_s, link_s, server_s = label.costs_s
        mean_s = self._weights[0] * device_s + self._weights[1] * server_s + self._rest_s[place]
        return float(max(device_s, link_s, server_s, mean_s * (1 - 1e-12)))

    def best(self, *, below_s: float) -> tuple[frozenset[int] | None, float]:
        """Return the device's layers of the best partition, and what was forgotten.

        Returns:
            The layers, ``None`` if no bottleneck is below ``below_s``; and the least floor of the
            labels that were forgotten because they were too many, infinite if none was.
        """
        labels, forgotten_s = [self._start], float("inf")
        for place in range(len(self._free)):
            grown = [new for label in labels for new in self._continued(label, place)]
            floors = [(self._floor_s(label, place + 1), label) for label in grown]
            floors = [(floor, label) for floor, label in floors if floor < below_s]
            labels = _undominated([label for _, label in floors])
            if len(labels) > _MOST_LABELS:
                labels.sort(key=lambda label: self._floor_s(label, place + 1))
                forgotten_s = min(forgotten_s, self._floor_s(labels[_MOST_LABELS], place + 1))
                labels = labels[:_MOST_LABELS]
        ends = [self._sent(label, self._read_behind) for label in labels]
        best = min(ends, key=lambda label: max(label.costs_s), default=None)
        if best is None or not max(best.costs_s) < below_s:
            return None, forgotten_s
        start = self._free.start
        chosen = {start + i for i in range(len(self._free)) if best.chosen >> i & 1}
        return frozenset(range(start)) | chosen, forgotten_s

    def _continued(self, label: _Label, place: int) -> list[_Label]:
        """Return the label with the next free layer on the server, and on the device if it may."""
        live = self._live_layers[place], self._live_tensors[place]
        there = self._sent(label, self._reads[place])
        device_s, link_s, server_s = there.costs_s
        costs_s = (device_s, link_s + self._return_s[place], server_s + self._server_s[place])
        found = [_Label(costs_s, there.here & live[0], there.paid & live[1], label.chosen)]
        if self._needs[place] & ~label.here == 0:
            device_s, link_s, server_s = label.costs_s
            costs_s = (device_s + self._device_s[place], link_s, server_s)
            here, bit = label.here | 1 << place, 1 << place
            found.append(_Label(costs_s, here & live[0], label.paid & live[1], label.chosen | bit))
        return found

    def _sent(self, label: _Label, reads: list[tuple[int, int, float]]) -> _Label:
        """Return the label with what the server reads paid, unless it was or was made there."""
        device_s, link_s, server_s = label.costs_s
        paid = label.paid
        for made_by, own, cost_s in reads:
            if not paid & own and (not made_by or label.here & made_by):
                paid |= own
                link_s += cost_s
        return _Label((device_s, link_s, server_s), label.here, paid, label.chosen)


def _undominated(labels: list[_Label]) -> list[_Label]:
    """Return the labels that no other of the same state is as good as in all three costs."""
    states: dict[tuple[int, int], list[_Label]] = {}
    for label in labels:
        states.setdefault((label.here, label.paid), []).append(label)
    kept: list[_Label] = []
    for members in states.values():
        members.sort(key=lambda label: label.costs_s)
        # Of those with less device time, the staircase of link against server time.
        links: list[float] = []
        servers: list[float] = []
        for label in members:
            _, link_s, server_s = label.costs_s
            place = bisect_right(links, link_s)
            if place and servers[place - 1] <= server_s:
                continue
            kept.append(label)
            first = bisect_left(links, link_s)
            last = first
            while last < len(links) and servers[last] >= server_s:
                last += 1
            links[first:last], servers[first:last] = [link_s], [server_s]
    return kept

"""Find the cheapest plan of a network under one condition, again and again. It keeps no results.

A cut vertex splits every plan: with it on the device, so is all before it; with it on the server,
so is all behind it. Hence exactly one segment between two neighbouring cut vertices is divided,
and the cheapest plan is the cheapest of all segments' cheapest ones: whole segments are compared
by an array, and the inside of one is only cut if a lower bound leaves hope.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.envelope import Condition, CostVector
from isthmus.planning.partition import check_costs, check_covered, crossing_tensors, cut_vertices
from isthmus.planning.segment_cut import Crossing, SegmentNetwork
from isthmus.types.graph import ModelGraph

__all__ = ["Answer", "CheapestPlan", "Found", "PlanCosts"]


@dataclass(frozen=True, eq=False)
class PlanCosts:
    """What each layer costs here and there, and what each tensor costs if it crosses.

    Each tensor that crosses is encoded, sent and decoded once, however many layers read it. What
    any crossing costs whatever crosses (a round trip, the answer's way back) is not in here: it
    is the same for all plans that use the server, so it changes only whether one of these or the
    plan without a server is best, not which one of these.

    Attributes:
        graph: The network.
        device_s: float64 ``[n]``, seconds of each layer on the device.
        server_s: float64 ``[n]``, seconds of each layer on the server, at slowdown 1.
        sent_bytes: Bytes on the wire of each tensor that some layer reads, graph inputs included;
            infinite for a tensor that must not cross.
        encode_s: Seconds that the device takes to encode a tensor; absent is 0.
        decode_s: Seconds that the server takes to decode it; absent is 0.
    """

    graph: ModelGraph
    device_s: NDArray[np.float64]
    server_s: NDArray[np.float64]
    sent_bytes: Mapping[str, float]
    encode_s: Mapping[str, float] = field(default_factory=dict)
    decode_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_costs(self.graph, {"device_s": self.device_s, "server_s": self.server_s})
        check_covered(self.graph, "sent_bytes", self.sent_bytes)
        others = (*self.encode_s.values(), *self.decode_s.values())
        if any(not 0 <= value < math.inf for value in others):
            raise ValueError("encode_s and decode_s must be finite and not negative")

    def crossing(self, name: str) -> CostVector:
        """Return what a tensor adds to a plan if it crosses."""
        return self.encode_s.get(name, 0.0), self.sent_bytes[name], self.decode_s.get(name, 0.0)

    def of(self, device: frozenset[int]) -> CostVector:
        """Return what the plan with these layers on the device costs."""
        is_here = np.zeros(len(self.device_s), bool)
        is_here[list(device)] = True
        total = np.array([self.device_s[is_here].sum(), 0.0, self.server_s[~is_here].sum()])
        for name in crossing_tensors(self.graph, device):
            total += self.crossing(name)
        return float(total[0]), float(total[1]), float(total[2])


@dataclass(frozen=True)
class Found:
    """A plan: its layers on the device, and what it costs."""

    device: frozenset[int]
    costs: CostVector


@dataclass(frozen=True)
class Answer:
    """The answer of one search.

    Attributes:
        found: The cheapest plan; ``None`` if none is below the bound.
        least_s: No plan costs less under the condition asked for, seconds.
    """

    found: Found | None
    least_s: float


class CheapestPlan:
    """The search, with what does not depend on the condition computed once.

    Attributes:
        cuts: How many minimum cuts were computed so far.
    """

    def __init__(self, costs: PlanCosts) -> None:
        graph, count = costs.graph, len(costs.graph.layers)
        self.cuts = 0
        # One segment begins at each of these layers; -1 stands for the graph's inputs.
        self._starts = np.array([-1, *cut_vertices(graph)])
        self._ends = np.append(self._starts[1:], count)
        here = np.append(0.0, np.cumsum(costs.device_s))
        there = np.append(np.cumsum(costs.server_s[::-1])[::-1], 0.0)
        around = np.zeros((len(self._starts), 3))  # what is paid outside of each segment
        around[:, 0], around[:, 2] = here[self._starts + 1], there[self._ends]
        whole = around.copy()  # with all of the segment's free layers on the server
        whole[:, 2] = there[self._starts + 1]
        self._around = around
        self._segments: dict[int, SegmentNetwork] = {}
        for k, crossings in enumerate(_crossings(costs, self._starts, self._ends)):
            for tensor in crossings:
                if tensor.producer < 0:
                    whole[k] += tensor.costs
            inside = slice(int(self._starts[k]) + 1, int(self._ends[k]))
            if inside.start < inside.stop:
                segment = SegmentNetwork(costs.device_s[inside], costs.server_s[inside], crossings)
                if np.isfinite(segment.always).all():
                    self._segments[k] = segment
        self._inside = np.array(list(self._segments), np.int64)
        self._layer_s = np.stack([costs.device_s, costs.server_s])
        self._always = np.array([s.always for s in self._segments.values()]).reshape(-1, 3)
        self._is_sharp = np.zeros(len(self._inside), bool)
        # The plan without a server, then one plan for each segment's start.
        local = np.array([[here[-1], 0.0, 0.0]])
        self._whole = np.concatenate([local, whole])
        self._layers = [count, *(int(start) + 1 for start in self._starts)]

    def cheapest(self, condition: Condition) -> Found:
        """Return the cheapest plan under a condition."""
        found = self.below(condition, math.inf).found
        assert found is not None  # without a server, the cost is finite
        return found

    def below(self, condition: Condition, bound_s: float) -> Answer:
        """Return the cheapest plan under a condition if it costs less than ``bound_s``.

        Among plans that cost the same, one that divides no segment is preferred, then one with
        fewer layers on the device.
        """
        weights = np.array([1.0, condition[0], condition[1]])
        with np.errstate(invalid="ignore"):
            whole_s = np.nan_to_num(self._whole * weights, nan=np.inf).sum(axis=1)
        best = int(whole_s.argmin())
        device, costs = None, None
        least_s = bound_s
        if whole_s[best] < bound_s:
            device = frozenset(range(self._layers[best]))
            costs = self._whole[best]
            bound_s = least_s = float(whole_s[best])
        floors_s = self._floors_s(weights)
        for place in np.argsort(floors_s, kind="stable"):
            k = int(self._inside[place])
            if not floors_s[place] < bound_s:
                break
            if not self._is_sharp[place]:
                self._sharpen(place)
                if not self._floors_s(weights)[place] < bound_s:
                    continue
            segment, around = self._segments[k], self._around[k]
            around_s = float(around @ weights)
            self.cuts += 1
            found = segment.cut(weights, bound_s - around_s)
            least_s = min(least_s, found.least + around_s)
            if found.on_device is None:
                continue
            vector = around + segment.costs(found.on_device)
            if (total_s := float(vector @ weights)) < bound_s:
                device, costs, bound_s = self._device(k, found.on_device), vector, total_s
        if device is None or costs is None:
            return Answer(None, least_s)
        return Answer(Found(device, _vector(costs)), least_s)

    def some(self, limit: int) -> Iterator[Found]:
        """Yield all plans that divide no segment, and up to ``limit`` that divide each segment.

        Plans that send what must not cross are left out.
        """
        for layers, costs in zip(self._layers, self._whole, strict=True):
            if np.isfinite(costs).all():
                yield Found(frozenset(range(layers)), _vector(costs))
        for k, segment in self._segments.items():
            for on_device in segment.divisions(limit):
                costs = self._around[k] + segment.costs(on_device)
                if np.isfinite(costs).all():
                    yield Found(self._device(k, on_device), _vector(costs))

    def _device(self, k: int, on_device: NDArray[np.bool_]) -> frozenset[int]:
        """Return the device's layers if segment ``k`` is divided so."""
        first = int(self._starts[k]) + 1
        return frozenset([*range(first), *(first + np.flatnonzero(on_device)).tolist()])

    def _floors_s(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what no cut inside each segment can cost less than, seconds.

        Each free layer costs the less of its two, and what crosses has the segment's least bytes.
        """
        cheaper = np.minimum(self._layer_s[0], self._layer_s[1] * weights[2])
        sums = np.append(0.0, np.cumsum(cheaper))
        inside = self._inside
        free_s = sums[self._ends[inside]] - sums[self._starts[inside] + 1]
        floors: NDArray[np.float64] = (self._around[inside] + self._always) @ weights + free_s
        return floors

    def _sharpen(self, place: int) -> None:
        """Find the least bytes that cross in a segment: a cut of its own, once."""
        segment = self._segments[int(self._inside[place])]
        found = segment.cut(np.array([0.0, 1.0, 0.0]), segment.most_bytes)
        self.cuts += 1
        self._always[place, 1] = max(self._always[place, 1], found.least)
        self._is_sharp[place] = True


def _vector(costs: NDArray[np.float64]) -> CostVector:
    return float(costs[0]), float(costs[1]), float(costs[2])


def _crossings(
    costs: PlanCosts, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> list[tuple[Crossing, ...]]:
    """Return the tensors that may cross if a segment is divided, by segment.

    A tensor belongs to the segment that its producer begins or is in; no cut vertex lets one
    pass, so it is read there or by the layer behind.
    """
    graph = costs.graph
    found: list[list[Crossing]] = [[] for _ in starts]
    producers = [graph.producers.get(name, -1) for name in graph.consumers]
    segments = np.searchsorted(starts, producers, side="right") - 1
    for (name, readers), made, k in zip(graph.consumers.items(), producers, segments, strict=True):
        if readers:
            first = int(starts[k]) + 1
            free = tuple(reader - first for reader in readers if reader < ends[k])
            is_read_behind = len(free) < len(readers)
            maker = made - first if made >= first else -1
            found[k].append(Crossing(maker, free, is_read_behind, costs.crossing(name)))
    return [tuple(crossings) for crossings in found]

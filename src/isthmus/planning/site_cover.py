"""A few plans for sites in a row, and the proof that none is much cheaper. It measures nothing.

Under a condition a plan costs a weighted sum: seconds at each site, bytes on each hop. With two
sites, all plans that are ever the best are few (``frontier``). With three, the hull has five
dimensions and may have many vertices that differ by little, so here is an *epsilon-cover*: under
every condition of a cone, its best plan is at most ``1 + epsilon`` times as costly as the best
plan of all.

The proof. The least cost over all plans, ``f``, is a concave function of the condition. Inside a
simplex whose corners are solved, it is no less than what interpolates between the corners. There,
the best of the cover is no more costly than any fixed *mixture* of its plans, which is linear; so
if a mixture is at most ``1 + epsilon`` times ``f`` at every corner, it is so against the
interpolation, and the cover is within ``epsilon`` of ``f`` in the whole simplex. The best mixture
is that of a small matrix game (``matrix_game``). If it is not good enough, the game's other side
says where in the simplex the cover may be worst: that point is solved, which gives a new plan or
lifts the interpolation, and the simplex is divided there. The simplices cover the cone.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.matrix_game import solve_game
from isthmus.planning.site_row import RowNetwork, RowProblem, part_costs, row_partition_of

__all__ = ["STATED_ROW_CONE", "Cover", "CoverPlan", "RowCone", "cover"]

_TIE_RATIO = 1e-9
"""A plan is new if it is cheaper than all known ones by more than this, relatively."""

_LEAST_SHARE = 1e-7
"""A simplex is not divided at a point that is nearer than this to one of its faces, but on it."""

_FAR = 1e3
"""The game does not tell apart plans that cost more times the least than this; proofs do."""

_Weights = NDArray[np.float64]


@dataclass(frozen=True)
class RowCone:
    """Conditions under which a plan may be wanted: all multiples of those in these ranges.

    The device's slowdown is 1: if all sites and hops slow down alike, no plan overtakes another.

    Attributes:
        s_per_byte: Least and greatest seconds per byte of each hop, positive.
        slowdown: Least and greatest slowdown of each site behind the device, positive.
    """

    s_per_byte: tuple[tuple[float, float], ...]
    slowdown: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.s_per_byte) == len(self.slowdown):
            raise ValueError(f"{len(self.s_per_byte)} hops lead to {len(self.slowdown)} sites")
        for least, greatest in (*self.s_per_byte, *self.slowdown):
            if not 0 < least < greatest < math.inf:
                raise ValueError(f"a range must be positive and finite, got {least, greatest}")

    def corners(self) -> dict[tuple[int, ...], _Weights]:
        """Return the weights of all parts (``RowNetwork``) at each corner of the ranges.

        A corner is told by 0 (least) or 1 (greatest) for the first hop, the second site, the
        second hop and so on.
        """
        ranges = [r for pair in zip(self.s_per_byte, self.slowdown, strict=True) for r in pair]
        return {
            ends: np.array([1.0, *(r[end] for r, end in zip(ranges, ends, strict=True))])
            for ends in product((0, 1), repeat=len(ranges))
        }


STATED_ROW_CONE = RowCone(
    s_per_byte=((8 / 10e9, 8 / 50e3), (8 / 10e9, 8 / 1e6)), slowdown=((0.1, 10.0), (0.1, 10.0))
)
"""Device, edge, cloud: uplinks from 50 kbit/s to 10 Gbit/s, from 1 Mbit/s to 10 Gbit/s behind the
edge, and an edge and a cloud up to ten times faster or slower than stated."""


@dataclass(frozen=True)
class CoverPlan:
    """One plan of a cover.

    Attributes:
        levels: The site of each layer; 0 is the device.
        tensors: What crosses each hop, sorted.
        costs: Of each part of the row (``RowNetwork``), at weight 1.
    """

    levels: tuple[int, ...]
    tensors: tuple[tuple[str, ...], ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Cover:
    """A few plans, and what their being enough rests on.

    Attributes:
        plans: Those with less work on the device come first.
        cone: The conditions that were asked for.
        gap_ratio: Under no condition of the cone is any plan cheaper than the best of ``plans``
            by more than this share of its own cost; proven, up to the rounding of floats.
        simplices: Into how many the cone was divided.
        solves: How many minimum cuts were computed.
        is_complete: Whether ``gap_ratio`` is what was asked for; else the cap on solves was met.
    """

    plans: tuple[CoverPlan, ...]
    cone: RowCone
    gap_ratio: float
    simplices: int
    solves: int
    is_complete: bool


def cover(
    problem: RowProblem,
    *,
    epsilon: float,
    cone: RowCone = STATED_ROW_CONE,
    most_solves: int = 5000,
) -> Cover:
    """Return plans of which, under every condition of a cone, one is within ``1 + epsilon``.

    Of these plans, those are left out again that the proof can do without, the ones in fewest
    simplices first.

    Args:
        problem: What each part costs at weight 1: seconds of layers, and *bytes* of tensors in
            place of ``transfer_s`` (what else a hop costs is weighed like its bytes, too). Round
            trips are the same for all plans that use the same hops: ``site_table`` keeps a cover
            for each choice of hops and leaves them out here.
        epsilon: The gap asked for, positive.
        cone: The conditions; as many hops as the problem has.
        most_solves: After as many minimum cuts the search ends, the corners of the cone (16 for
            three sites) not counted, and ``Cover.gap_ratio`` is what is proven by then: the
            simplices with the greatest gaps are divided first.

    Raises:
        ValueError: If ``epsilon`` is not positive, or the cone is of another number of sites.

    Complexity: One minimum cut for each division, and a matrix game of (plans x corners) for each
    simplex; their number grows with the cells of the hull in reach, not with ``1 / epsilon``.

    References:
        Diakonikolas and Yannakakis, "Succinct approximate convex Pareto curves", SODA 2008, for
        the notion; Rote, "The convergence rate of the sandwich algorithm for approximating convex
        functions", 1992, and Bokrantz and Forsgren, "An algorithm for approximating convex Pareto
        surfaces based on dual techniques", 2013, for inner and outer approximation. *Departs*:
        simplices with proofs of their own, relative gaps, mixtures by a matrix game.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    if len(cone.s_per_byte) != len(problem.hops):
        raise ValueError(f"{len(problem.hops)} hops and a cone of {len(cone.s_per_byte)}")
    search = _Search(problem)
    proven: list[_Proof] = []
    open_: list[tuple[float, int, _Proof]] = []

    def sort_in(simplex: _Simplex) -> None:
        proof = search.proof(simplex, epsilon)
        if proof.gap_ratio <= epsilon:
            proven.append(proof)
        else:
            heapq.heappush(open_, (-proof.gap_ratio, search.turn(), proof))

    corners = {ends: search.solve(weights) for ends, weights in cone.corners().items()}
    limit = search.solves + most_solves
    for simplex in _simplices(corners):
        sort_in(simplex)
    while open_ and search.solves < limit:
        _, _, proof = heapq.heappop(open_)
        if proof.known < len(search.plans):  # new plans may do
            sort_in(proof.simplex)
            continue
        for simplex in search.divided(proof):
            sort_in(simplex)
    left = [search.proof(proof.simplex, epsilon) for _, _, proof in open_]
    gap_ratio = max([epsilon, *(proof.gap_ratio for proof in left)])
    proofs = _thinned(search, [*proven, *left], gap_ratio)
    plans = [search.plans[k] for k in frozenset().union(*(proof.used for proof in proofs))]
    return Cover(
        tuple(sorted(plans, key=lambda plan: (plan.costs[0], plan.tensors))),
        cone,
        max(0.0, *(proof.gap_ratio for proof in proofs)),
        len(proofs),
        search.solves,
        gap_ratio <= epsilon,
    )


_Simplex = tuple[int, ...]
"""Numbers of solved conditions."""


@dataclass(frozen=True, eq=False)
class _Proof:
    """What is known of one simplex.

    Attributes:
        simplex: Its corners.
        gap_ratio: Nowhere in it is the best known plan worse than the optimum by more.
        used: Plans in the mixture that shows it.
        shares: Of the corners, float64 ``[corners]``: where the gap may be greatest.
        known: How many plans were known.
    """

    simplex: _Simplex
    gap_ratio: float
    used: frozenset[int]
    shares: NDArray[np.float64]
    known: int


class _Search:
    """Conditions solved so far, and plans known so far."""

    def __init__(self, problem: RowProblem) -> None:
        self._problem = problem
        self._network = RowNetwork(problem)
        self._weights: list[_Weights] = []
        self._least_s: list[float] = []
        self._solved: dict[tuple[frozenset[int], frozenset[int]], int] = {}
        self._costs = np.empty((0, 2 * len(problem.layer_s) - 1))
        self._turns = 0
        self.plans: list[CoverPlan] = []
        self._add((0,) * len(problem.graph.layers))

    @property
    def solves(self) -> int:
        """How many conditions were solved."""
        return len(self._weights)

    def turn(self) -> int:
        """Return a number that grows: among equal gaps, the older simplex comes first."""
        self._turns += 1
        return self._turns

    def _add(self, levels: tuple[int, ...]) -> None:
        found = row_partition_of(self._problem, levels)
        self.plans.append(CoverPlan(levels, found.tensors, part_costs(self._problem, levels)))
        self._costs = np.array([plan.costs for plan in self.plans])

    def solve(self, weights: _Weights) -> int:
        """Solve a condition, add the plan if it is new, and return the condition's number."""
        bound_s = float((self._costs @ weights).min())
        levels, least_s = self._network.below(weights, bound_s)
        if levels is not None:
            costs = np.array(part_costs(self._problem, levels))
            if costs @ weights < bound_s * (1 - _TIE_RATIO):
                self._add(levels)
        self._weights.append(weights)
        self._least_s.append(least_s)
        return len(self._weights) - 1

    def proof(self, simplex: _Simplex, enough: float, plans: list[int] | None = None) -> _Proof:
        """Return what known plans prove of a simplex; one plan alone, if that is ``enough``."""
        costs = self._costs if plans is None else self._costs[plans]
        names = range(len(self.plans)) if plans is None else plans
        weights = np.array([self._weights[i] for i in simplex])
        least_s = np.array([self._least_s[i] for i in simplex])
        known_s = costs @ weights.T
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where(known_s <= least_s, 1.0, known_s / least_s)
        worst = ratios.max(axis=1)
        best = int(worst.argmin())
        if worst[best] <= 1 + enough:
            used = frozenset((names[best],))
            return _Proof(simplex, float(worst[best]) - 1, used, np.empty(0), len(self.plans))
        rows, columns = solve_game(np.minimum(ratios, _FAR))
        mixed = np.flatnonzero(rows)
        gap_ratio = float((rows[mixed] @ ratios[mixed]).max()) - 1
        used = frozenset(names[k] for k in mixed.tolist())
        return _Proof(simplex, gap_ratio, used, columns, len(self.plans))

    def divided(self, proof: _Proof) -> Iterator[_Simplex]:
        """Solve where the gap may be greatest, and yield the simplices around that point.

        The game's columns are shares of the corners *at their least cost*, so each is divided by
        that; the point is where a mixture's plans tie. Shares that are next to nothing are
        set to zero, which moves the point on to a face, where it divides the simplex into fewer.
        """
        shares = np.where(proof.shares < _LEAST_SHARE, 0.0, proof.shares)
        around = [proof.simplex[k] for k in np.flatnonzero(shares).tolist()]
        key = (frozenset(around), proof.used)
        if key not in self._solved:
            weights = sum(
                (
                    share * self._weights[i] / self._least_s[i]
                    for share, i in zip(shares.tolist(), proof.simplex, strict=True)
                    if share
                ),
                np.zeros(self._costs.shape[1]),
            )
            self._solved[key] = self.solve(weights / weights[0])
        point = self._solved[key]
        for corner in around:
            yield tuple(point if i == corner else i for i in proof.simplex)


def _simplices(corners: dict[tuple[int, ...], int]) -> Iterator[_Simplex]:
    """Yield the simplices of a box: one for each order in which its sides can be walked.

    References:
        Freudenthal, "Simplizialzerlegungen von beschränkter Flachheit", 1942; Kuhn, 1960.
    """
    count = len(next(iter(corners)))
    for order in permutations(range(count)):
        ends = [0] * count
        simplex = [corners[tuple(ends)]]
        for side in order:
            ends[side] = 1
            simplex.append(corners[tuple(ends)])
        yield tuple(simplex)


def _thinned(search: _Search, proofs: list[_Proof], gap_ratio: float) -> list[_Proof]:
    """Return proofs that use fewer plans: each is left out if all proofs can do without it."""
    proofs = list(proofs)
    counts = Counter(k for proof in proofs for k in proof.used)
    kept = sorted(counts)
    for k in sorted(kept, key=lambda k: counts[k]):
        others = [other for other in kept if other != k]
        changed: dict[int, _Proof] = {}
        for place, proof in enumerate(proofs):
            if k in proof.used and others:
                changed[place] = search.proof(proof.simplex, gap_ratio, others)
                if changed[place].gap_ratio > gap_ratio:
                    break
        else:
            kept = others or kept
            proofs = [changed.get(place, proof) for place, proof in enumerate(proofs)]
    return proofs

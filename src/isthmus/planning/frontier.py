"""All plans of one network that are best under some condition, and the proof that no other is.

A plan costs seconds on the device, bytes on the link and seconds on the server; a condition
weighs them. The plans that are best for some condition of a cone are the vertices of the lower
convex hull of all plans' costs, seen from that cone: the *frontier*. It is exact for costs that
add up, as estimated ones do. It does not say which cuts are worth building (``candidates``), and
knows nothing of deadlines.

How, and why it ends. The least cost over all plans is a concave function of the condition; the
least over the *known* plans is one above it, made of planes. Over the cell of one known plan the
upper function is linear, so the distance of the two is convex there and greatest at a corner of
the cell. So it is enough to search for the cheapest plan at the corners of all cells: either it
is new, and is added; or it is not, and the corner is *certified*. Each search certifies a corner
or adds a plan, and there are finitely many of both. When all corners are certified, the two
functions are the same over the whole cone, and the known plans with a cell are all there are.
The same argument carries a relative tolerance from the corners to the whole cone.
"""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.planning.cheapest_plan import CheapestPlan, Found, PlanCosts
from isthmus.planning.envelope import STATED_CONE, Condition, Cone, CostVector, Envelope, cost_s
from isthmus.planning.partition import crossing_tensors

__all__ = ["Frontier", "FrontierPlan", "frontier"]

_TOLERANCE_RATIO = 1e-9
"""A plan is new if it is cheaper than all known ones by more than this, relatively."""


@dataclass(frozen=True)
class FrontierPlan:
    """One vertex of the frontier.

    Attributes:
        tensors: Frontier tensors, sorted; empty if all layers run on the device.
        device_layers: Indices of the device's layers.
        costs: Seconds on the device, bytes sent, seconds on the server.
        best_at: A condition of the cone under which it is the best of all plans.
    """

    tensors: tuple[str, ...]
    device_layers: frozenset[int]
    costs: CostVector
    best_at: Condition


@dataclass(frozen=True)
class Frontier:
    """All vertices, and what their completeness rests on.

    Attributes:
        plans: The vertices; those with less work on the device come first.
        cone: The conditions that were asked for.
        certificates: Corners at which no plan is cheaper than the known ones.
        searches: How often the cheapest plan under a condition was searched for.
        cuts: How many minimum cuts that took.
        gap_ratio: Under no condition of the cone is any plan cheaper than the best of ``plans``
            by more than this share of its cost.
    """

    plans: tuple[FrontierPlan, ...]
    cone: Cone
    certificates: int
    searches: int
    cuts: int
    gap_ratio: float


def frontier(costs: PlanCosts, cone: Cone = STATED_CONE) -> Frontier:
    """Return every plan that is the best one under some conditions of a cone.

    Plans that cost the same three figures count as one: one that divides no segment between cut
    vertices, and among those the one with the fewest layers on the device; else the one with
    the fewest layers on the device in its segment. Plans that are best only where another one is
    just as good (on an edge or a side of the hull) are not vertices and are left out.

    A codec is told by ``costs``: its bytes, and its seconds on both sides, for each tensor.

    Args:
        costs: Of each layer and tensor; they add up.
        cone: The conditions.

    Returns:
        The vertices. Plans that differ by less than 1e-9 of their cost may be missed; how far
        the result can be from the best is in ``Frontier.gap_ratio``, proven and not estimated.

    References:
        Eisner and Severance, "Mathematical techniques for efficient record segmentation in large
        shared databases", JACM 1976, for one parameter; Benson, "An outer approximation
        algorithm for generating all efficient extreme points in the outcome set of a multiple
        objective linear programming problem", 1998, whose dual form this is. Zhang et al.
        (QDMP), IMWUT 2020, for the search by segments. *Departs*: all segments, by lower bounds.
    """
    search = CheapestPlan(costs)
    envelope = Envelope(cone)
    known: list[Found] = []
    fresh = [search.cheapest(cone.corners[0])]
    certified: set[frozenset[int]] = set()
    searches, gap_ratio = 1, 0.0
    while fresh:
        for found in fresh:
            envelope.add(len(known), found.costs)
            known.append(found)
        fresh = []
        for corner in {corner.key: corner for corner in envelope.corners()}.values():
            bound_s = corner.cost_s * (1 - _TOLERANCE_RATIO)
            is_outdated = any(cost_s(one.costs, corner.condition) < bound_s for one in fresh)
            if corner.key in certified or is_outdated:
                continue
            answer = search.below(corner.condition, bound_s)
            searches += 1
            if answer.found is not None:
                fresh.append(answer.found)
                continue
            certified.add(corner.key)
            if corner.cost_s > 0:
                gap_ratio = max(gap_ratio, 1 - answer.least_s / corner.cost_s)
    plans = [
        FrontierPlan(
            crossing_tensors(costs.graph, known[i].device),
            known[i].device,
            known[i].costs,
            envelope.middle(i),
        )
        for i in envelope.members
    ]
    plans.sort(key=lambda plan: (plan.costs[0], plan.tensors))
    return Frontier(tuple(plans), cone, len(certified), searches, search.cuts, gap_ratio)

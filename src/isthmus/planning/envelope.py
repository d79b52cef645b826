"""The conditions that plans are compared under, and which of the known plans is best where.

It knows costs, not plans: what a cost vector belongs to, and where more of them come from, is the
caller's business (``frontier``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["STATED_CONE", "Condition", "Cone", "Corner", "CostVector", "Envelope", "cost_s"]

CostVector = tuple[float, float, float]
"""Seconds on the device, bytes sent, seconds on the server, each at slowdown 1."""

Condition = tuple[float, float]
"""Seconds per byte, and the server's slowdown; the device's slowdown is 1."""

_TIE_RATIO = 1e-12
"""Costs that differ by less, relative to their size, count as equal in the geometry."""

_Cell = list[tuple[Condition, int]]
"""A convex polygon, corners in order, each with the label of the edge that leaves it."""


def cost_s(costs: CostVector, condition: Condition) -> float:
    """Return what a plan takes under a condition, seconds at the device's slowdown 1."""
    return costs[0] + costs[1] * condition[0] + costs[2] * condition[1]


@dataclass(frozen=True)
class Cone:
    """Conditions under which a plan may be wanted: all multiples of those in two ranges.

    Which of two plans is better does not change when device, link and server all become slower
    by the same factor, so the device's slowdown is set to 1: the cone is cut open there, and what
    is seen is a rectangle, that is a bounded convex polygon, of the other two.

    Attributes:
        s_per_byte: Least and greatest seconds per byte of the uplink.
        server_slowdown: Least and greatest slowdown of the server over that of the device.
    """

    s_per_byte: tuple[float, float]
    server_slowdown: tuple[float, float]

    def __post_init__(self) -> None:
        for name in ("s_per_byte", "server_slowdown"):
            least, greatest = getattr(self, name)
            if not 0 <= least < greatest < float("inf"):
                raise ValueError(f"{name} must be a range of finite numbers, got {least, greatest}")

    @property
    def corners(self) -> tuple[Condition, Condition, Condition, Condition]:
        """The rectangle's corners, in order."""
        (fast, slow), (quick, loaded) = self.s_per_byte, self.server_slowdown
        return ((fast, quick), (slow, quick), (slow, loaded), (fast, loaded))


STATED_CONE = Cone(s_per_byte=(8 / 10e9, 8 / 50e3), server_slowdown=(0.1, 10.0))
"""Uplinks from 50 kbit/s to 10 Gbit/s; a server up to ten times faster or slower than stated."""


@dataclass(frozen=True)
class Corner:
    """Where cells meet, or meet the cone's boundary.

    Attributes:
        key: The cells and boundaries that meet, the same from whichever cell it is seen.
        condition: Where it is.
        cost_s: The least cost of all known plans there.
    """

    key: frozenset[int]
    condition: Condition
    cost_s: float


class Envelope:
    """The least cost of the known plans over a cone: a concave function made of planes.

    The *cell* of a plan is where it is best, a convex polygon. Plans whose cell has no inside are
    forgotten. Over each cell the least cost is linear, so a concave function below it is farthest
    away at one of the cell's corners.
    """

    def __init__(self, cone: Cone) -> None:
        self._boundary: _Cell = [(c, -1 - i) for i, c in enumerate(cone.corners)]
        self._costs: dict[int, CostVector] = {}
        self._cells: dict[int, _Cell] = {}

    def add(self, index: int, costs: CostVector) -> bool:
        """Add a plan under a number of the caller's, 0 or more; return whether it has a cell."""
        touched = [
            other
            for other, cell in self._cells.items()
            if any(_side(costs, self._costs[other], at) < 0 for at, _ in cell)
        ]
        cell = self._boundary
        for other in touched if self._cells else ():
            cell = _clipped(cell, costs, self._costs[other], other)
        if self._cells and not (touched and cell):
            return False
        for other in touched:
            left = _clipped(self._cells[other], self._costs[other], costs, index)
            if left:
                self._cells[other] = left
            else:
                del self._cells[other], self._costs[other]
        self._costs[index] = costs
        self._cells[index] = cell
        return True

    @property
    def members(self) -> tuple[int, ...]:
        """Numbers of the plans that have a cell."""
        return tuple(self._cells)

    def middle(self, index: int) -> Condition:
        """Return a condition inside the cell of a member."""
        cell = self._cells[index]
        return (
            sum(at[0] for at, _ in cell) / len(cell),
            sum(at[1] for at, _ in cell) / len(cell),
        )

    def corners(self) -> Iterator[Corner]:
        """Yield the corners of all cells; one where three cells meet comes three times."""
        for index, cell in self._cells.items():
            before = cell[-1][1]
            for at, label in cell:
                yield Corner(frozenset((index, before, label)), at, cost_s(self._costs[index], at))
                before = label


def _side(one: CostVector, other: CostVector, at: Condition) -> int:
    """Return -1, 0 or 1 as ``one`` costs less than, as much as or more than ``other``."""
    mine, yours = cost_s(one, at), cost_s(other, at)
    if abs(mine - yours) <= _TIE_RATIO * max(mine, yours):
        return 0
    return -1 if mine < yours else 1


def _clipped(cell: _Cell, mine: CostVector, yours: CostVector, label: int) -> _Cell:
    """Return the part of a cell where ``mine`` costs no more; empty if it has no inside."""
    sides = [_side(mine, yours, at) for at, _ in cell]
    if -1 not in sides:
        return []
    if 1 not in sides:
        return cell
    found: _Cell = []
    for i, (at, edge) in enumerate(cell):
        j = (i + 1) % len(cell)
        if sides[i] <= 0:
            found.append((at, label if sides[i] == 0 and sides[j] > 0 else edge))
        if sides[i] * sides[j] < 0:
            crossing = _crossing(at, cell[j][0], mine, yours)
            found.append((crossing, label if sides[i] < 0 else edge))
    return found if len(found) > 2 else []


def _crossing(start: Condition, end: Condition, mine: CostVector, yours: CostVector) -> Condition:
    """Return where two plans cost the same on the line between two conditions."""
    before = cost_s(mine, start) - cost_s(yours, start)
    after = cost_s(mine, end) - cost_s(yours, end)
    share = before / (before - after)
    return (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))

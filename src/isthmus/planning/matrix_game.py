"""Solve a small matrix game: one side mixes rows, the other mixes columns. It knows no plans."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Mixtures", "solve_game"]

_PIVOTS = 200
_ZERO = 1e-12
_LEAST_PIVOT = 1e-9


class Mixtures(NamedTuple):
    """A solution: no other mixture of rows has a smaller greatest column, but for rounding.

    Attributes:
        rows: float64 ``[m]``, shares that add up to 1; most of them are 0.
        columns: float64 ``[n]``, shares that add up to 1: where all rows that are used, mixed or
            not, cost the same, and no row costs less.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]


def solve_game(costs: NDArray[np.float64]) -> Mixtures:
    """Return the mixture of rows whose greatest column is least, and the columns' answer to it.

    Both are found by linear programming: ``max sum(y)`` subject to ``costs.T @ y <= 1`` and ``y >=
    0``, which can begin at ``y = 0``; ``y`` in proportion is the mixture of rows, and the prices of
    the constraints are that of the columns. Should the pivots run out, what is returned is still
    two mixtures, only not the best ones: a caller that needs a bound computes it from them.

    Args:
        costs: float64 ``[m, n]``, positive and finite.

    Complexity: O(m n) for each pivot; a few pivots for each column.

    References:
        Dantzig, "A proof of the equivalence of the programming problem and the game problem",
        1951.

    Examples:
        >>> rows, columns = solve_game(np.array([[1.0, 3.0], [3.0, 1.0], [9.0, 9.0]]))
        >>> rows.round(6).tolist(), columns.round(6).tolist()
        ([0.5, 0.5, 0.0], [0.5, 0.5])
    """
    m, n = costs.shape
    table = np.zeros((n + 1, m + n + 1))
    table[:n, :m] = costs.T
    table[:n, m:] = np.eye(n, n + 1)
    table[:n, -1] = 1.0
    table[n, :m] = -1.0
    basis = list(range(m, m + n))
    for _ in range(_PIVOTS):
        entering = int(table[n, :-1].argmin())
        if table[n, entering] >= -_ZERO:
            break
        column = table[:n, entering]
        room = np.full(n, np.inf)
        np.divide(table[:n, -1], column, out=room, where=column > _LEAST_PIVOT)
        leaving = int(room.argmin())
        table[leaving] /= table[leaving, entering]
        factors = table[:, entering].copy()
        factors[leaving] = 0.0
        table -= np.outer(factors, table[leaving])
        basis[leaving] = entering
    rows = np.zeros(m + n)
    rows[basis] = np.maximum(table[:n, -1], 0.0)
    columns = np.maximum(table[n, m : m + n], 0.0)
    return Mixtures(rows[:m] / rows[:m].sum(), columns / columns.sum())

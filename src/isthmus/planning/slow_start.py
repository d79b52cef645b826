"""Slow start: what a small congestion window costs the plans of a view. It knows no transport.

``Link.stalls_s`` says what is lost by how many rounds, ``stall_rounds`` how many a message needs;
here that is laid over all plans at once. What slow start adds is linear in seconds per byte and
round trip for plans whose rounds are known, and these change at a few sizes of the photograph and
a few rates alone: the plans are laid out once between two of them, and one product predicts them.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.types.link import MOST_ROUNDS, stall_rounds

if TYPE_CHECKING:
    from isthmus.planning.view import View

__all__ = ["Slowed", "rounds_of", "slowed_of"]

_WINDOWS_KEPT = 64
_DOUBLED = np.exp2(np.arange(MOST_ROUNDS + 1)) - 1.0


class Slowed(NamedTuple):
    """The candidates of a view, as they are slowed by one window on links that it fills as soon.

    Attributes:
        totals: The view's, and two more columns for what stalls add: seconds of each second per
            uplink byte, and of each second of a round trip; float64 ``[V, L + 2]``.
        rounds: Round trips that each one stalls, int ``[V]``.
    """

    totals: NDArray[np.float64]
    rounds: NDArray[np.intp]


def slowed_of(view: View, window_bytes: float, most: int, file_bytes: float) -> Slowed:
    """Return the candidates with what slow start costs laid over them; the last are remembered.

    Args:
        view: The candidates.
        window_bytes: The first round's, from 1 on and finite.
        most: ``Link.rounds_to_fill`` of it; no message stalls more rounds.
        file_bytes: Of the photograph; 0 where there is none.
    """
    size = 0
    if len(view.files):
        limits = view.limits.get(window_bytes)
        if limits is None:
            limits = _limits(view.arrays.sent_bytes[view.files], window_bytes)
            if len(view.limits) >= _WINDOWS_KEPT:
                view.limits.clear()
            view.limits[window_bytes] = limits
        size = bisect_left(limits, file_bytes)
    key = (window_bytes, most, size)
    found = view.slowed.get(key)
    if found is None:
        rounds = np.minimum(rounds_of(view, window_bytes, file_bytes), most)
        waits = view.arrays.waits
        saved = -window_bytes * _DOUBLED[rounds] * waits
        found = Slowed(np.column_stack((view.totals, saved, rounds * waits)), rounds)
        if len(view.slowed) >= _WINDOWS_KEPT:
            view.slowed.clear()
        view.slowed[key] = found
    return found


def _limits(sent_bytes: NDArray[np.float64], window_bytes: float) -> list[float]:
    """Return the photographs' sizes, ascending, above which some message needs a round more."""
    limits = np.subtract.outer(window_bytes * _DOUBLED[1:], sent_bytes).ravel()
    limits.sort()
    found: list[float] = limits.tolist()
    return found


def rounds_of(view: View, window_bytes: float, file_bytes: float) -> NDArray[np.intp]:
    """Return how many rounds beyond its first each candidate's message needs, int ``[V]``.

    While the window doubles, so that links that are full before need no more than
    ``len(Link.stalls_s(window_bytes)) - 1`` of them; 0 for local ones.

    Args:
        view: The candidates.
        window_bytes: The first round's, from 1 on and finite.
        file_bytes: Of the photograph; 0 where there is none.
    """
    found = view.rounds.get(window_bytes)
    if found is None:
        found = _rounds(view.arrays.sent_bytes * view.arrays.is_remote, window_bytes)
        if len(view.rounds) >= _WINDOWS_KEPT:
            view.rounds.clear()
        view.rounds[window_bytes] = found
    if not len(view.files):
        return found
    least, largest = view.files_bytes
    rounds = stall_rounds(least + file_bytes, window_bytes)
    found = found.copy()
    if rounds == stall_rounds(largest + file_bytes, window_bytes):
        found[view.files] = rounds
    else:
        found[view.files] = _rounds(view.arrays.sent_bytes[view.files] + file_bytes, window_bytes)
    return found


def _rounds(sent_bytes: NDArray[np.float64], window_bytes: float) -> NDArray[np.intp]:
    """Return ``stall_rounds`` of many messages."""
    rounds = [stall_rounds(size, window_bytes) for size in sent_bytes.tolist()]
    return np.array(rounds, np.intp)

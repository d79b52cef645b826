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

from isthmus.types.link import MOST_ROUNDS

if TYPE_CHECKING:
    from isthmus.planning.view import View

__all__ = ["Slowed", "rounds_of", "slowed_of"]

_WINDOWS_KEPT = 64


class Slowed(NamedTuple):
    """The candidates of a view, as they are slowed by one window on links that it fills as soon.

    Attributes:
        totals: The view's, and two more columns for what stalls add: seconds of each second per
            uplink byte, and of each second of a round trip; float64 ``[V, L + 2]``.
        rounds: Round trips that each one stalls, float64 ``[V]``.
    """

    totals: NDArray[np.float64]
    rounds: NDArray[np.float64]


def slowed_of(view: View, window_bytes: float, most: int, file_bytes: float) -> Slowed:
    """Return the candidates with what slow start costs laid over them; the last are remembered.

    Args:
        view: The candidates.
        window_bytes: The first round's, from 1 on and finite.
        most: ``Link.rounds_to_fill`` of it; no message stalls more rounds.
        file_bytes: Of the photograph; 0 where there is none.
    """
    limits = view.limits.get(window_bytes)
    if limits is None:
        limits = _limits(view, window_bytes)
        if len(view.limits) >= _WINDOWS_KEPT:
            view.limits.clear()
        view.limits[window_bytes] = limits
    size = bisect_left(limits, file_bytes)
    key = (window_bytes, most, size)
    found = view.slowed.get(key)
    if found is None:
        rounds = np.minimum(rounds_of(view, window_bytes, file_bytes), most)
        waits = view.arrays.waits
        saved = -window_bytes * (np.exp2(rounds) - 1.0) * waits
        found = Slowed(np.column_stack((view.totals, saved, rounds * waits)), rounds)
        if len(view.slowed) >= _WINDOWS_KEPT:
            view.slowed.clear()
        view.slowed[key] = found
    return found


def _limits(view: View, window_bytes: float) -> list[float]:
    """Return the photographs' sizes, ascending, above which some message needs a round more."""
    sends_file = view.arrays.files > 0
    sent_bytes = view.arrays.message_bytes[sends_file]
    doubled = np.exp2(np.arange(1, MOST_ROUNDS + 1)) - 1.0
    limits = np.subtract.outer(window_bytes * doubled, sent_bytes) / view.arrays.files[sends_file]
    found: list[float] = np.sort(limits, axis=None).tolist()
    return found


def rounds_of(
    view: View, window_bytes: float | NDArray[np.float64], file_bytes: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how many rounds beyond its first each candidate's message needs: ``stall_rounds``.

    While the window doubles, so that links that are full before need no more than
    ``Link.rounds_to_fill`` of them; 0 for local ones.

    Args:
        view: The candidates.
        window_bytes: The first round's, from 1 on; one, or float64 ``[G, 1]``.
        file_bytes: Of the photograph, 0 where there is none; likewise.

    Returns:
        Whole numbers, float64 ``[V]`` or ``[G, V]``.
    """
    arrays = view.arrays
    sent_bytes = arrays.message_bytes + arrays.files * file_bytes
    found: NDArray[np.float64] = np.ceil(np.log2(sent_bytes / window_bytes + 1.0)) - 1.0
    return np.maximum(found, 0.0, out=found)

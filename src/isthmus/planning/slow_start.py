"""Slow start: what a small congestion window costs the plans of a view. It knows no transport.

``Link.stalls_s`` says what is lost by how many rounds, ``stall_rounds`` how many a message needs;
here that is laid over all plans at once. Rounds depend on bytes and window alone, so those of
messages of a fixed size are remembered; that of the photograph itself is found for each request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isthmus.types.link import stall_rounds

if TYPE_CHECKING:
    from isthmus.planning.view import View

__all__ = ["rounds_of"]

_WINDOWS_KEPT = 64


def rounds_of(view: View, window_bytes: float, file_bytes: float) -> NDArray[np.intp]:
    """Return how many rounds beyond its first each candidate's message needs, int ``[V]``.

    While the window doubles, so that links that are full before need no more than
    ``len(Link.stalls_s(window_bytes)) - 1`` of them; 0 for local ones.

    Args:
        view: The candidates.
        window_bytes: The first round's, positive and finite.
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

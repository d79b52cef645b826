"""Prediction: what all plans of a view take at one instant. It chooses none.

The mean latencies are one product over the view, and what is not linear is added to them: slow
start and waits. Spreads need more work, so they are computed for those plans that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError
from isthmus.planning.columns import BASES, Numbers, numbers_of
from isthmus.planning.slow_start import rounds_of
from isthmus.planning.view import Candidate, View
from isthmus.types.conditions import Conditions

__all__ = ["Prediction", "first_least", "predicted", "spread_of", "spread_s", "stall_s"]

_UPLINK = BASES.index("uplink")
_RTT = BASES.index("rtt")
_NO_WAITS: Mapping[int, float] = {}
_NO_STALLS: tuple[float, ...] = (0.0,)


class Prediction(NamedTuple):
    """All candidates at one instant; positions are those of ``view.candidates``.

    Attributes:
        view: The candidates, ``V`` of them.
        conditions: The instant.
        numbers: The instant as numbers.
        x: Values of the view's columns, length ``L``.
        latencies_s: Mean latencies, seconds, length ``V``.
        waits_s: Seconds in ``wait``, by position; those that are not named do not wait.
        stalls_s: See ``Link.stalls_s``.
        rounds: Rounds that messages need, int ``[V]``; ``None`` where nothing stalls.
        file_bytes: Of the photograph.
    """

    view: View
    conditions: Conditions
    numbers: Numbers
    x: list[float]
    latencies_s: list[float]
    waits_s: Mapping[int, float]
    stalls_s: tuple[float, ...]
    rounds: NDArray[np.intp] | None
    file_bytes: float


def predicted(view: View, conditions: Conditions) -> Prediction:
    """Return what each candidate takes.

    Raises:
        ConditionsError: If a latency is not finite.
    """
    numbers = numbers_of(conditions, view.decode_targets)
    values, features = numbers.values, numbers.features
    if not numbers.largest * view.largest < math.inf:
        raise ConditionsError("the predicted latency is not finite under these conditions")
    x = [values[base] * features[feature] for base, feature in view.sources]
    file_bytes = float(conditions.image.file_bytes) if conditions.image else 0.0
    # `dot`, not `@`: it needs less than half the time when the caches are cold.
    means = view.totals.dot(x)
    stalls_s, rounds = _NO_STALLS, None
    if conditions.window_bytes != math.inf:
        stalls_s = conditions.link.stalls_s(conditions.window_bytes)
        if len(stalls_s) > 1:
            rounds = rounds_of(view, conditions.window_bytes, file_bytes)
            stalled = np.array(stalls_s).take(rounds, mode="clip")
            means += stalled * view.arrays.waits if view.has_exits else stalled
    now = Prediction(
        view, conditions, numbers, x, means.tolist(), _NO_WAITS, stalls_s, rounds, file_bytes
    )
    return _waiting(now, conditions.unit_ready_s) if conditions.unit_ready_s else now


def _waiting(now: Prediction, unit_ready_s: Mapping[str, float]) -> Prediction:
    """Return a prediction with what remains of the units' getting ready."""
    view = now.view
    waits_s = {
        position: ready_s
        for unit, ready_s in unit_ready_s.items()
        for position in view.units.get(unit, ())
    }
    if not waits_s:
        return now
    arrivals_s = view.arrivals.dot(now.x).tolist()
    for position, ready_s in waits_s.items():
        arrival_s = arrivals_s[position] + _full_stall_s(now, position)
        wait_s = max(0.0, ready_s - arrival_s) * view.candidates[position].waits
        now.latencies_s[position] += wait_s
        waits_s[position] = wait_s
    return now._replace(waits_s=waits_s)


def _full_stall_s(now: Prediction, position: int) -> float:
    """Return what slow start costs a candidate that does not leave at its exit, seconds."""
    if now.rounds is None:
        return 0.0
    return now.stalls_s[min(int(now.rounds[position]), len(now.stalls_s) - 1)]


def stall_s(now: Prediction, position: int) -> float:
    """Return what slow start costs a candidate, seconds; an exit counts as often as it is left."""
    if now.rounds is None:
        return 0.0
    return _full_stall_s(now, position) * now.view.candidates[position].waits


def spread_of(now: Prediction, position: int) -> float:
    """Return the standard deviation of a candidate's latency, seconds."""
    candidate = now.view.candidates[position]
    if now.rounds is None:
        return spread_s(candidate, now.numbers)
    rounds = min(int(now.rounds[position]), len(now.stalls_s) - 1)
    return spread_s(candidate, now.numbers, rounds, now.conditions.window_bytes)


def spread_s(
    candidate: Candidate, numbers: Numbers, rounds: int = 0, window_bytes: float = 0.0
) -> float:
    """Return the standard deviation of a candidate's latency, seconds.

    Args:
        candidate: One row.
        numbers: The instant.
        rounds: Round trips that slow start costs it: each moves with the round trip, and what
            was sent meanwhile takes no time of its own.
        window_bytes: The first round's.
    """
    features, sds = numbers.features, numbers.sds
    sent_s = numbers.values[_UPLINK] * candidate.sent_bytes_sd
    variance = candidate.residual_s * candidate.residual_s + sent_s * sent_s
    if rounds or numbers.covariances:
        return _spread_together_s(candidate, numbers, variance, rounds, window_bytes)
    for base, parts in candidate.shares:
        sd = sds[base]
        if sd:
            moved = 0.0
            for feature, seconds in parts:
                moved += seconds * features[feature]
            moved *= sd
            variance += moved * moved
    return math.sqrt(variance)


def _spread_together_s(
    candidate: Candidate, numbers: Numbers, variance: float, rounds: int, window_bytes: float
) -> float:
    """Return the same where bases err together, or slow start stalls."""
    features, sds = numbers.features, numbers.sds
    moved = [0.0] * len(sds)
    for base, parts in candidate.shares:  # every remote row has shares of both that stall
        seconds_of_base = 0.0
        for feature, seconds in parts:
            seconds_of_base += seconds * features[feature]
        if rounds and base == _RTT:
            seconds_of_base += rounds * candidate.waits
        elif rounds and base == _UPLINK:
            seconds_of_base -= window_bytes * (2**rounds - 1) * candidate.waits
        moved[base] = seconds_of_base
        moved_s = seconds_of_base * sds[base]
        variance += moved_s * moved_s
    for one, other, covariance in numbers.covariances:
        variance += 2 * moved[one] * moved[other] * covariance
    return math.sqrt(max(variance, 0.0))


def first_least(now: Prediction, positions: Iterable[int]) -> int:
    """Return the position of the least latency, then of least bytes sent, then of least index."""

    def rank(position: int) -> tuple[float, float, int]:
        found = now.view.candidates[position]
        sent_bytes = found.sent_bytes + found.files * now.file_bytes
        return now.latencies_s[position], sent_bytes, found.row_index

    return min(positions, key=rank)

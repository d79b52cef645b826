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
from isthmus.planning.slow_start import slowed_of
from isthmus.planning.view import Candidate, View
from isthmus.types.conditions import Conditions

__all__ = ["Prediction", "first_least", "predicted", "spread_of", "spread_s", "stall_s"]

_UPLINK = BASES.index("uplink")
_RTT = BASES.index("rtt")
_NO_WAITS: Mapping[int, float] = {}


class Prediction(NamedTuple):
    """All candidates at one instant; positions are those of ``view.candidates``.

    Attributes:
        view: The candidates, ``V`` of them.
        conditions: The instant.
        numbers: The instant as numbers.
        x: Values of the view's columns, length ``L``.
        latencies_s: Mean latencies, seconds, float64 ``[V]``; read one by ``item``.
        waits_s: Seconds in ``wait``, by position; those that are not named do not wait.
        rounds: Round trips that messages stall, float64 ``[V]``; ``None`` where nothing stalls.
        file_bytes: Of the photograph.
        spreads_s: Those that have been asked for, by position.
    """

    view: View
    conditions: Conditions
    numbers: Numbers
    x: list[float]
    latencies_s: NDArray[np.float64]
    waits_s: Mapping[int, float]
    rounds: NDArray[np.float64] | None
    file_bytes: float
    spreads_s: dict[int, float]


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
    window_bytes, rounds = conditions.window_bytes, None
    most = 0 if window_bytes == math.inf else conditions.link.rounds_to_fill(window_bytes)
    if most:
        totals, rounds = slowed_of(view, window_bytes, most, file_bytes)
        means = totals.dot([*x, values[_UPLINK], values[_RTT]])
    else:
        means = view.totals.dot(x)
    now = Prediction(view, conditions, numbers, x, means, _NO_WAITS, rounds, file_bytes, {})
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
    rounds, values = now.rounds.item(position), now.numbers.values
    saved_s = now.conditions.window_bytes * (2**rounds - 1) * values[_UPLINK]
    return float(rounds * values[_RTT] - saved_s)


def stall_s(now: Prediction, position: int) -> float:
    """Return what slow start costs a candidate, seconds; an exit counts as often as it is left."""
    if now.rounds is None:
        return 0.0
    return _full_stall_s(now, position) * now.view.candidates[position].waits


def spread_of(now: Prediction, position: int) -> float:
    """Return the standard deviation of a candidate's latency, seconds."""
    found = now.spreads_s.get(position)
    if found is None:
        rounds = 0.0 if now.rounds is None else now.rounds.item(position)
        candidate, window_bytes = now.view.candidates[position], now.conditions.window_bytes
        found = now.spreads_s[position] = spread_s(candidate, now.numbers, rounds, window_bytes)
    return found


def spread_s(
    candidate: Candidate, numbers: Numbers, rounds: float = 0.0, window_bytes: float = 0.0
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
    for base, feature, seconds, others in candidate.shares:
        sd = sds[base]
        if sd:
            moved = seconds * features[feature]
            for feature, seconds in others:
                moved += seconds * features[feature]
            moved *= sd
            variance += moved * moved
    return math.sqrt(variance)


def _spread_together_s(
    candidate: Candidate, numbers: Numbers, variance: float, rounds: float, window_bytes: float
) -> float:
    """Return the same where bases err together, or slow start stalls."""
    features, sds = numbers.features, numbers.sds
    moved = [0.0] * len(sds)
    for base, feature, seconds, others in candidate.shares:
        seconds_of_base = seconds * features[feature]  # remote rows have shares of all that stalls
        for feature, seconds in others:
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
        return now.latencies_s.item(position), sent_bytes, found.row_index

    return min(positions, key=rank)

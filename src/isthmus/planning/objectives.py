"""Objectives beyond latency and accuracy: the device's energy, and a stream's pace.

It says what each candidate costs by them; ``planning.decide`` says which one is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.planning.columns import BASES
from isthmus.planning.energy import watts_by_state
from isthmus.planning.prediction import Prediction, stall_s
from isthmus.types.plan import Rules

__all__ = ["TIE_RATIO", "costs_of", "intervals_of", "is_resource"]

TIE_RATIO = 1e-9
"""Energies and bottlenecks that differ by no more than this share are equal."""

is_resource: NDArray[np.bool_] = np.array([not base.endswith("rtt") for base in BASES])
"""Which bases are busy with a request, so that the next one has to wait; bool ``[B]``."""


def costs_of(now: Prediction, rules: Rules) -> Sequence[float]:
    """Return what each candidate costs by ``rules.objective``: joules, or seconds of a stream."""
    if rules.objective == "greatest_throughput":
        return intervals_of(now)
    return _energies_j(now, watts_by_state(rules.power))


def _energies_j(now: Prediction, watts: tuple[float, ...]) -> list[float]:
    """Return the device's energy for each candidate, joules; see ``planning.energy``."""
    _, send_w, wait_w, _ = watts
    energies_j: list[float] = np.dot(watts, now.view.states.dot(now.x)).tolist()
    for position, wait_s in now.waits_s.items():
        energies_j[position] += wait_w * wait_s
    if now.rounds is not None:
        for position in range(len(energies_j)):
            energies_j[position] += send_w * stall_s(now, position)
    return energies_j


def intervals_of(now: Prediction) -> list[float]:
    """Return each candidate's bottleneck, seconds: the least time between a stream's answers.

    While one request is on its way, the next one is computed: what counts is the busiest of the
    device, the uplink, the server, the downlink and what is behind the server. Each of them is
    busy as long as the coefficients of its own columns say, with stages after an exit counting
    as often as they are taken. Round trips, connecting, slow start and waits keep nothing busy.

    References:
        Hu et al., "DADS", INFOCOM 2019: heavy load. *Departs*: the way back counts too.
    """
    busy = np.zeros((len(now.x), len(BASES)))
    for column, (base, _) in enumerate(now.view.sources):
        busy[column, base] = now.x[column]
    found: list[float] = (now.view.totals.dot(busy) * is_resource).max(axis=1).tolist()
    return found

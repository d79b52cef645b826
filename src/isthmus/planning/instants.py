"""Instants: what all plans of a view take at many instants. It chooses none.

The formulas are those of ``prediction`` and ``slow_start``, in whole arrays. Means are computed of
all plans at all instants; spreads, which need more work, for the few pairs that are asked for, and
bounds of all of them tell which few these are.

Shapes: ``N`` instants, ``V`` candidates, ``L`` columns of their view, ``B`` bases. Many instants
share a photograph and a window: ``G`` kinds of input are looked at instead of ``N``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError
from isthmus.planning.columns import BASES, features_of, numbers_of
from isthmus.planning.objectives import is_resource
from isthmus.planning.slow_start import rounds_of
from isthmus.planning.view import View
from isthmus.types.conditions import Conditions
from isthmus.types.link import MOST_ROUNDS

__all__ = ["Instants"]

_Floats = NDArray[np.float64]
_Positions = NDArray[np.intp]

_UPLINK = BASES.index("uplink")
_RTT = BASES.index("rtt")
_HOPS = ((_UPLINK, _RTT), (BASES.index("cloud_uplink"), BASES.index("cloud_rtt")))


class Instants:
    """A view at many instants.

    Attributes:
        view: The candidates.
        latencies_s: Mean latencies, float64 ``[N, V]``, seconds.
        safety_sds: Standard deviations to keep to the deadline, float64 ``[N]``.
    """

    def __init__(self, view: View, conditions: Sequence[Conditions]) -> None:
        """Predict all candidates at all instants.

        Raises:
            ConditionsError: If some instant cannot be computed with.
        """
        self.view = view
        known: dict[tuple[int, bool, float], int] = {}
        kinds = [
            known.setdefault((id(c.image), c.is_connected, c.window_bytes), len(known))
            for c in conditions
        ]
        self._kinds = np.array(kinds)
        inputs = list(dict(zip(kinds, conditions, strict=True)).values())
        features = np.array([features_of(c, view.decode_targets) for c in inputs])
        self._read(conditions)
        self._check(conditions, features)
        self._features = features.take(view.arrays.features, axis=1).T.take(self._kinds, axis=1)
        self._x = self._values.take(view.arrays.bases, axis=0) * self._features
        self.latencies_s: _Floats = self._x.T @ view.totals.T
        self._stalls_s = self._stalled_s(inputs)
        if self._stalls_s is not None:
            self.latencies_s += self._stalls_s
        self._waits_s = self._waited_s(conditions)
        if self._waits_s is not None:
            self.latencies_s += self._waits_s

    def _read(self, conditions: Sequence[Conditions]) -> None:
        """Set what ``numbers_of`` says of each instant: values and deviations ``[B, N]``."""
        figures: list[float] = []
        has_cloud = conditions[0].cloud is not None  # all instants of a view have one, or none has
        for c in conditions:
            link = c.link
            figures += (
                c.window_bytes, c.safety_sds, c.device_slowdown, c.server_slowdown,
                link.uplink_bytes_per_s, link.downlink_bytes_per_s, link.rtt_s,
                c.device_slowdown_sd, c.server_slowdown_sd,
                link.uplink_sd_ratio, link.downlink_sd_ratio, link.rtt_sd_s,
                link.uplink_rtt_correlation,
            )  # fmt: skip
            if has_cloud and c.cloud is not None:
                link = c.cloud.link
                figures += (
                    c.cloud.slowdown,
                    link.uplink_bytes_per_s, link.downlink_bytes_per_s, link.rtt_s,
                    c.cloud.slowdown_sd,
                    link.uplink_sd_ratio, link.downlink_sd_ratio, link.rtt_sd_s,
                    link.uplink_rtt_correlation,
                )  # fmt: skip
        # What `np.array` makes of a list takes three times as long.
        packed = np.frombuffer(struct.pack(f"{len(figures)}d", *figures))
        rows = np.array(packed.reshape(len(conditions), -1).T, order="C")
        self._windows, self.safety_sds = rows[0], rows[1]
        self._first_s = rows[0] / rows[4]
        self._values, self._sds = np.zeros((2, len(BASES), len(conditions)))
        self._ratios = rows[12::9]
        with np.errstate(over="ignore", invalid="ignore"):
            rows[4:6] = 1.0 / rows[4:6]
            rows[9:11] *= rows[4:6]
            self._values[:5], self._sds[:5] = rows[2:7], rows[7:12]
            if has_cloud:
                rows[14:16] = 1.0 / rows[14:16]
                rows[18:20] *= rows[14:16]
                self._values[5:], self._sds[5:] = rows[13:17], rows[17:21]

    def _check(self, conditions: Sequence[Conditions], features: _Floats) -> None:
        """Check the same as ``numbers_of`` and ``predicted`` do.

        Raises:
            ConditionsError: If some instant cannot be computed with.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            largest = features.sum(axis=1).take(self._kinds)
            largest *= self._values.sum(axis=0) + self._sds.sum(axis=0)
            is_fine = largest.max() * self.view.largest < math.inf and features.min() >= 0
        if not is_fine:
            for c in conditions:
                numbers_of(c, self.view.decode_targets)
            raise ConditionsError("the predicted latency is not finite under these conditions")

    def _stalled_s(self, inputs: Sequence[Conditions]) -> _Floats | None:
        """Return what slow start costs, ``[N, V]``, ``None`` where nothing stalls."""
        rtt_s = self._values[_RTT]
        whole, doublings = np.frexp(rtt_s)
        part, already = np.frexp(self._first_s)
        most = np.minimum(doublings - already + (whole > part), MOST_ROUNDS)
        most *= self._first_s < rtt_s
        self._most_rounds = most
        if not most.any():
            return None
        is_free = most == 0
        self._windows[is_free] = self._first_s[is_free] = 0.0  # infinite ones are, too
        rounds = np.minimum(np.arange(most.max() + 1.0), most[:, None])
        by_rounds_s = rounds * rtt_s[:, None] - (np.exp2(rounds) - 1.0) * self._first_s[:, None]
        needed = rounds_of(
            self.view,
            np.array([[c.window_bytes] for c in inputs]),
            np.array([[c.image.file_bytes if c.image else 0] for c in inputs]),
        )
        self._needed = np.minimum(needed, most.max()).astype(np.intp)
        at = self._needed.take(self._kinds, axis=0)
        at += np.arange(0, rounds.size, rounds.shape[1])[:, None]
        full_s: _Floats = by_rounds_s.ravel().take(at)
        self._full_stalls_s = full_s
        return full_s * self.view.arrays.waits

    def _waited_s(self, conditions: Sequence[Conditions]) -> _Floats | None:
        """Return what remains of the units' getting ready, ``[N, V]``, ``None`` where nothing."""
        view = self.view
        waiting = [n for n, c in enumerate(conditions) if c.unit_ready_s]
        units = {unit for n in waiting for unit in conditions[n].unit_ready_s} & view.units.keys()
        if not units:
            return None
        waits_s = np.zeros(self.latencies_s.shape)
        for unit in units:
            ready_s = np.array([[conditions[n].unit_ready_s.get(unit, 0.0)] for n in waiting])
            positions = list(view.units[unit])
            arrivals_s = self._x.T[waiting] @ view.arrivals[positions].T
            at = np.ix_(waiting, positions)
            if self._stalls_s is not None:
                arrivals_s += self._full_stalls_s[at]
            waits_s[at] = np.maximum(ready_s - arrivals_s, 0.0) * view.arrays.waits[positions]
        return waits_s

    @cached_property
    def latest_s(self) -> _Floats:
        """Means and safety margins or more, float64 ``[N, V]``, seconds.

        Deviations that were summed instead of their squares are never too small, and linear in
        the plan: one product for all. A stall takes from the bytes' share and is left out here.
        """
        sds = self._features * self._sds.take(self.view.arrays.bases, axis=0)
        rounds_s = self._most_rounds * self._sds[_RTT]
        margins = np.vstack((sds, self._values[_UPLINK], rounds_s, np.ones(len(rounds_s))))
        margins *= self.safety_sds
        found: _Floats = margins.T @ self.view.bounds.T
        found += self.latencies_s
        return found

    def spreads_s(self, n: _Positions, v: _Positions) -> _Floats:
        """Return the spreads of candidates ``v`` at instants ``n``, float64 ``[n]``, seconds."""
        arrays, sds = self.view.arrays, self._sds.take(n, axis=1)
        terms = self._features.take(n, axis=1) * self.view.totals.T.take(v, axis=1)
        moved = arrays.is_of_base @ terms
        if self._stalls_s is not None:
            waits = arrays.waits[v]
            rounds = np.minimum(self._needed[self._kinds[n], v], self._most_rounds[n])
            moved[_RTT] += rounds * waits
            moved[_UPLINK] -= self._windows[n] * (np.exp2(rounds) - 1.0) * waits
        moved *= sds
        sent_s = self._values[_UPLINK, n] * arrays.sent_bytes_sd[v]
        variance: _Floats = np.einsum("bq,bq->q", moved, moved)
        variance += sent_s * sent_s + np.square(arrays.residual_s[v])
        for (one, other), ratios in zip(_HOPS, self._ratios, strict=False):
            if ratios.any():
                variance += 2.0 * ratios[n] * moved[one] * moved[other]
        return np.sqrt(np.maximum(variance, 0.0))

    def busy_s(self, n: _Positions, v: _Positions) -> _Floats:
        """Return how long the device is busy before messages leave, float64 ``[n]``, seconds."""
        busy: _Floats = np.einsum("lq,ql->q", self._x[:, n], self.view.arrays.busy[v])
        return busy

    def energies_j(self, watts: tuple[float, ...]) -> _Floats:
        """Return the device's energy, float64 ``[N, V]``, joules."""
        by_watts = np.tensordot(np.array(watts), self.view.states, 1)
        energies_j: _Floats = self._x.T @ by_watts.T
        if self._waits_s is not None:
            energies_j += watts[2] * self._waits_s
        if self._stalls_s is not None:
            energies_j += watts[1] * self._stalls_s
        return energies_j

    def intervals_s(self) -> _Floats:
        """Return the bottlenecks, float64 ``[N, V]``, seconds."""
        found = np.zeros(self.latencies_s.shape)
        for base in np.flatnonzero(is_resource):
            columns = np.flatnonzero(self.view.arrays.bases == base)
            if len(columns):
                busy = self._x[columns].T @ self.view.totals[:, columns].T
                np.maximum(found, busy, out=found)
        return found

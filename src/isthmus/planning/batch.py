"""Batch: what ``planning.decide`` chooses at many instants, by whole arrays at once.

The rules are those of ``decide``, ``hedging`` and ``objectives``; this module has none of its own.
Sums come in another order here, so that rounding may differ: an instant at which two rows are so
close that this might matter is said not to be clear, and left to ``decide``.

Shapes: ``N`` instants, ``V`` candidates, ``L`` columns of their view, ``B`` bases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError
from isthmus.planning.columns import BASES, features_of, numbers_of
from isthmus.planning.energy import watts_by_state
from isthmus.planning.hedging import SAFE_RATIO
from isthmus.planning.objectives import TIE_RATIO, is_resource
from isthmus.planning.slow_start import rounds_of
from isthmus.planning.view import View
from isthmus.types.conditions import NORMAL_SDS, Conditions
from isthmus.types.plan import Rules

__all__ = ["Chosen", "choose_many"]

_Floats = NDArray[np.float64]
_Positions = NDArray[np.intp]
_Mask = NDArray[np.bool_]

_UPLINK = BASES.index("uplink")
_RTT = BASES.index("rtt")
_PAIRS = ((_UPLINK, _RTT), (BASES.index("cloud_uplink"), BASES.index("cloud_rtt")))
_CLOSE = 1e-11
"""Relative difference that is not left to rounding; sums of a few dozen terms err by 1e-14."""

_DOUBLED = np.exp2(np.arange(49)) - 1.0
"""Windows that have been sent after so many rounds; ``Link.stalls_s`` counts no more of them."""

_AT_ONCE = 2**15
"""Latencies predicted together: what stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is chosen at each of ``N`` instants.

    Attributes:
        arrays: Rows of the table, latencies, their deviations, slacks, late ratios, rows of the
            hedges, their starts: as in ``decide.Decisions``.
        is_clear: Where the choice does not hang on rounding, bool ``[N]``.
    """

    arrays: tuple[NDArray[np.generic], ...]
    is_clear: _Mask


def choose_many(view: View, conditions: Sequence[Conditions], rules: Rules) -> Chosen:
    """Return what is chosen at each instant.

    Args:
        view: The rows that may be chosen at all of them.
        conditions: ``N`` instants, at least one.
        rules: What the user asks for; a preference for a site is not looked at.

    Raises:
        ConditionsError: If a latency is not finite.
    """
    most = max(1, _AT_ONCE // len(view.candidates))
    step = -(-len(conditions) // -(-len(conditions) // most))
    parts = [
        _choose(_Batch(view, conditions[first : first + step]), rules)
        for first in range(0, len(conditions), step)
    ]
    if len(parts) == 1:
        return parts[0]
    arrays = zip(*(part.arrays for part in parts), strict=True)
    return Chosen(
        tuple(np.concatenate(columns) for columns in arrays),
        np.concatenate([part.is_clear for part in parts]),
    )


class _Batch:
    """A view at many instants.

    Attributes:
        values: Of the bases, float64 ``[N, B]``.
        features: Of the view's columns, float64 ``[N, L]``.
        x: Values of the view's columns, float64 ``[N, L]``.
        latencies_s: Means, float64 ``[N, V]``.
        waits_s: Seconds in ``wait``, float64 ``[N, V]``; ``None`` where nothing waits.
        stalls_s: What slow start costs, float64 ``[N, V]``; ``None`` where nothing stalls.
        safety_sds: Float64 ``[N]``.
    """

    def __init__(self, view: View, conditions: Sequence[Conditions]) -> None:
        self.view = view
        self.conditions = conditions
        features = self._numbers()
        self.bases = np.array([base for base, _ in view.sources], np.intp)
        columns = np.array([feature for _, feature in view.sources], np.intp)
        self.features = features[:, columns]
        self.x = self.values[:, self.bases] * self.features
        self.safety_sds = np.array([c.safety_sds for c in conditions])
        self.latencies_s: _Floats = self.x @ view.totals.T
        self._rounds: NDArray[np.intp] | None = None
        self.stalls_s = self._stalls_s()
        if self.stalls_s is not None:
            self.latencies_s += self.stalls_s
        self.waits_s = self._waits_s()
        if self.waits_s is not None:
            self.latencies_s += self.waits_s

    def _numbers(self) -> _Floats:
        """Set what ``numbers_of`` says of each instant; return the features, ``[N, features]``.

        Raises:
            ConditionsError: If some instant cannot be computed with.
        """
        targets = self.view.decode_targets
        of_input: dict[tuple[int, bool], list[float]] = {}  # many instants share a photograph
        features = []
        for c in self.conditions:
            key = id(c.image), c.is_connected
            if key not in of_input:
                of_input[key] = features_of(c, targets)
            features.append(of_input[key])
        found = np.array(features)
        here = [
            (
                c.device_slowdown, c.server_slowdown, link.uplink_bytes_per_s,
                link.downlink_bytes_per_s, link.rtt_s, c.device_slowdown_sd, c.server_slowdown_sd,
                link.uplink_sd_ratio, link.downlink_sd_ratio, link.rtt_sd_s,
                link.uplink_rtt_correlation,
            )
            for c, link in zip(self.conditions, [c.link for c in self.conditions], strict=True)
        ]  # fmt: skip
        behind = [
            (
                cloud.slowdown, cloud.link.uplink_bytes_per_s, cloud.link.downlink_bytes_per_s,
                cloud.link.rtt_s, cloud.slowdown_sd, cloud.link.uplink_sd_ratio,
                cloud.link.downlink_sd_ratio, cloud.link.rtt_sd_s,
                cloud.link.uplink_rtt_correlation,
            )
            for cloud in [c.cloud for c in self.conditions] if cloud is not None
        ]  # fmt: skip
        self.values, self.sds = np.zeros((2, len(here), len(BASES)))
        self._ratios: list[_Floats] = []
        with np.errstate(over="ignore", invalid="ignore"):
            first = 0
            for figures in (np.array(here), np.array(behind)):
                if not figures.size:
                    continue  # all instants of a view have a cloud, or none has
                count = figures.shape[1] // 2
                values, sds = figures[:, :count], figures[:, count : 2 * count]
                values[:, -3:-1] = 1.0 / values[:, -3:-1]
                sds[:, -3:-1] *= values[:, -3:-1]
                self.values[:, first : first + count] = values
                self.sds[:, first : first + count] = sds
                self._ratios.append(figures[:, -1])
                first += count
            largest = found.sum(axis=1) * (self.values.sum(axis=1) + self.sds.sum(axis=1))
            is_fine = np.isfinite(largest.max() * self.view.largest) and found.min() >= 0
        if not is_fine:
            for c in self.conditions:
                numbers_of(c, targets)
            raise ConditionsError("the predicted latency is not finite under these conditions")
        return found

    def _stalls_s(self) -> _Floats | None:
        """Return what slow start costs, and remember by how many rounds; see ``Link.stalls_s``."""
        windows = [c.window_bytes for c in self.conditions]
        if min(windows) == math.inf:
            return None
        self._windows = np.array([0.0 if w == math.inf else w for w in windows])
        up, rtt = self.values[:, _UPLINK], self.values[:, _RTT]
        # The first round at whose end the link is full; none where nothing holds back.
        with np.errstate(divide="ignore"):
            full = np.ceil(np.log2(rtt / (self._windows * up)))
        full[~np.isfinite(full)] = 0.0
        view = self.view
        rounds = np.zeros(self.latencies_s.shape, np.intp)
        by_window: dict[float, list[int]] = {}
        for n, window in enumerate(windows):
            if window != math.inf and full[n] > 0:
                by_window.setdefault(window, []).append(n)
        for window, members in by_window.items():
            rounds[members] = rounds_of(view, window, 0.0)
            if len(view.files):
                images = [self.conditions[n].image for n in members]
                sizes = [image.file_bytes if image else 0 for image in images]
                sent = view.arrays.sent_bytes[view.files] + np.array(sizes, float)[:, None]
                needed = np.maximum(np.ceil(np.log2(sent / window + 1.0)) - 1.0, 0.0)
                rounds[np.array(members)[:, None], view.files] = needed
        np.minimum(rounds, np.clip(full, 0, len(_DOUBLED) - 1).astype(np.intp)[:, None], out=rounds)
        self._rounds = rounds
        self._doubled = _DOUBLED.take(rounds)
        full_s: _Floats = self._doubled * -(self._windows * up)[:, None]
        full_s += rounds * rtt[:, None]
        self._full_stalls_s = full_s
        return full_s * view.arrays.waits if view.has_exits else full_s

    def _waits_s(self) -> _Floats | None:
        """Return what remains of the units' getting ready when messages arrive."""
        view = self.view
        waiting = [n for n, c in enumerate(self.conditions) if c.unit_ready_s]
        units = [
            unit
            for unit in {u for n in waiting for u in self.conditions[n].unit_ready_s}
            if unit in view.units
        ]
        if not units:
            return None
        waits_s = np.zeros(self.latencies_s.shape)
        for unit in units:
            ready_s = [self.conditions[n].unit_ready_s.get(unit, 0.0) for n in waiting]
            positions = list(view.units[unit])
            arrivals_s = self.x[waiting] @ view.arrivals[positions].T
            at = np.ix_(waiting, positions)
            weights = view.arrays.waits[positions]
            if self.stalls_s is not None:
                arrivals_s += self._full_stalls_s[at]
            waits_s[at] = np.maximum(np.array(ready_s)[:, None] - arrivals_s, 0.0) * weights
        return waits_s

    def spreads_s(self, positions: _Positions | slice) -> _Floats:
        """Return the spreads of candidates at all instants, float64 ``[N, positions]``, seconds."""
        view = self.view
        totals, arrays = view.totals[positions], view.arrays
        together = self._correlations()
        shared = {base for pair in together for base in pair}
        # What is one figure of the instant times one of the candidate is added by one product.
        of_instant = [np.ones(len(self.values)), self.values[:, _UPLINK]]
        of_candidate = [arrays.residual_s[positions], arrays.sent_bytes_sd[positions]]
        rest: list[int] = []
        for base in range(len(BASES)):
            columns = np.flatnonzero(self.bases == base)
            is_stalling = self._rounds is not None and base in (_UPLINK, _RTT)
            if len(columns) == 1 and not is_stalling and base not in shared:
                of_instant.append(self.features[:, columns[0]] * self.sds[:, base])
                of_candidate.append(totals[:, columns[0]])
            elif self.sds[:, base].any() and (len(columns) or is_stalling):
                rest.append(base)
        variance: _Floats = np.square(of_instant).T @ np.square(of_candidate)
        moved: dict[int, _Floats] = {}
        for base in rest:
            columns = np.flatnonzero(self.bases == base)
            sds = self.sds[:, [base]]
            of_base = (self.features[:, columns] * sds) @ totals[:, columns].T
            if self._rounds is not None and base in (_UPLINK, _RTT):
                of_base += self._stalled(base, positions) * sds
            if base in shared:
                moved[base] = of_base
                variance += of_base * of_base
            else:
                variance += np.multiply(of_base, of_base, out=of_base)
        for (one, other), ratios in together.items():
            if one in moved and other in moved:
                both = moved[one] * moved[other]
                both *= 2.0 * ratios[:, None]
                variance += both
                np.maximum(variance, 0.0, out=variance)
        return np.sqrt(variance, out=variance)

    def _correlations(self) -> dict[tuple[int, int], _Floats]:
        """Return how bases err together, from -1 to 1, float64 ``[N]`` for each pair of them."""
        found: dict[tuple[int, int], _Floats] = {}
        for pair, ratios in zip(_PAIRS, self._ratios, strict=False):
            if (ratios * self.sds[:, pair[0]] * self.sds[:, pair[1]]).any():
                found[pair] = ratios
        return found

    def _stalled(self, base: int, positions: _Positions | slice) -> _Floats:
        """Return how stalls move with the round trip or the seconds per byte; see ``spread_s``."""
        assert self._rounds is not None
        moves: _Floats
        if base == _RTT:
            moves = self._rounds[:, positions].astype(np.float64)
        else:
            moves = -self._windows[:, None] * self._doubled[:, positions]
        return moves * self.view.arrays.waits[positions] if self.view.has_exits else moves

    def busy_s(self, n: _Positions, v: _Positions) -> _Floats:
        """Return how long the device is busy before messages leave, float64 ``[n]``, seconds."""
        busy: _Floats = np.einsum("nl,nl->n", self.x[n], self.view.arrays.busy[v])
        return busy

    def energies_j(self, watts: tuple[float, ...]) -> _Floats:
        """Return the device's energy, float64 ``[N, V]``, joules."""
        by_watts = np.tensordot(np.array(watts), self.view.states, 1)
        energies_j: _Floats = self.x @ by_watts.T
        if self.waits_s is not None:
            energies_j += watts[2] * self.waits_s
        if self.stalls_s is not None:
            energies_j += watts[1] * self.stalls_s
        return energies_j

    def intervals_s(self) -> _Floats:
        """Return the bottlenecks, float64 ``[N, V]``, seconds."""
        found = np.zeros(self.latencies_s.shape)
        for base in np.flatnonzero(is_resource):
            columns = np.flatnonzero(self.bases == base)
            if len(columns):
                busy = self.x[:, columns] @ self.view.totals[:, columns].T
                np.maximum(found, busy, out=found)
        return found


def _choose(batch: _Batch, rules: Rules) -> Chosen:
    """Return what is chosen at each instant of a batch."""
    view, latencies_s = batch.view, batch.latencies_s
    clear = np.ones(len(latencies_s), bool)
    sds_s: _Floats | None = None
    if rules.deadline_s is not None and rules.objective != "least_latency":
        sds_s = batch.spreads_s(slice(None))
        position = _in_time(batch, rules, rules.deadline_s, sds_s, clear)
    else:
        allowed = _cheapest(batch, rules, np.ones(latencies_s.shape, bool))
        position, is_alone = _least(latencies_s, allowed)
        clear &= is_alone
    here = np.arange(len(position))
    if sds_s is None:
        needed, back = np.unique(position, return_inverse=True)
        sd_s = batch.spreads_s(needed)[here, back]
    else:
        sd_s = sds_s[here, position]
    latency_s = latencies_s[here, position]
    if not np.isfinite(latency_s + sd_s).all():
        raise ConditionsError("the predicted latency is not finite under these conditions")
    hedge, start_s = np.full(len(position), -1, np.intp), np.full(len(position), math.inf)
    late, slack_s = np.zeros(len(position)), np.full(len(position), math.inf)
    if rules.deadline_s is not None:
        margins_s = sd_s * batch.safety_sds
        slack_s = rules.deadline_s - latency_s - margins_s
        late = _late_ratios(rules.deadline_s - latency_s, margins_s)
        if rules.hedge_above_ratio is not None and view.locals:
            wanted = (late >= rules.hedge_above_ratio) & view.arrays.can_be_hedged[position]
            if wanted.any():
                found = np.flatnonzero(wanted), position[wanted]
                _add_hedges(batch, *found, rules.deadline_s, sds_s, hedge, start_s, late, clear)
    rows = view.arrays.row_index
    return Chosen((rows[position], latency_s, sd_s, slack_s, late, hedge, start_s), clear)


def _in_time(
    batch: _Batch, rules: Rules, deadline_s: float, sds_s: _Floats, clear: _Mask
) -> _Positions:
    """Return the positions of the best candidates in time; if none is, of the fastest."""
    latencies_s, accuracy = batch.latencies_s, batch.view.arrays.accuracy
    ends_s = sds_s * batch.safety_sds[:, None]
    ends_s += latencies_s
    fits = ends_s <= deadline_s
    surely = ends_s <= deadline_s * (1 - _CLOSE)
    clear &= (surely == (ends_s <= deadline_s * (1 + _CLOSE))).all(axis=1)
    has_fit = fits.any(axis=1)
    if rules.objective == "most_accurate":
        first = fits.argmax(axis=1)  # candidates come by falling accuracy
        best = np.where(has_fit, accuracy[first], -1.0)
        allowed = fits & (accuracy == best[:, None])
    else:
        best = np.empty(0)
        allowed = _cheapest(batch, rules, fits)
    allowed |= ~has_fit[:, None]
    position, is_alone = _least(latencies_s, allowed)
    clear &= is_alone
    if len(best) and rules.hedge_above_ratio is not None and batch.view.locals:
        near = (latencies_s <= deadline_s) & ~fits & batch.view.arrays.can_be_hedged
        near &= accuracy > best[:, None]
        if near.any():
            _take_hedged(batch, rules, near, sds_s, ends_s, best, position, clear)
    return position


def _cheapest(batch: _Batch, rules: Rules, allowed: _Mask) -> _Mask:
    """Return which of the allowed candidates cost least, ties included; all, by latency alone."""
    if rules.objective == "least_energy":
        costs = batch.energies_j(watts_by_state(rules.power))
    elif rules.objective == "greatest_throughput":
        costs = batch.intervals_s()
    else:
        return allowed
    least = np.where(allowed, costs, math.inf).min(axis=1)
    cheapest: _Mask = allowed & (costs <= (least * (1 + TIE_RATIO))[:, None])
    return cheapest


def _least(latencies_s: _Floats, allowed: _Mask) -> tuple[_Positions, _Mask]:
    """Return the allowed position of least latency, and whether no other one is as fast."""
    compared_s = np.where(allowed, latencies_s, math.inf)
    position = compared_s.argmin(axis=1)
    least_s = compared_s[np.arange(len(position)), position]
    rivals = np.count_nonzero(compared_s <= (least_s * (1 + _CLOSE))[:, None], axis=1)
    return position, rivals <= 1


def _late_ratios(slack_s: _Floats, margins_s: _Floats) -> _Floats:
    """Return ``hedging.late_ratio`` of many, from deadlines minus means and safety margins."""
    scale = NORMAL_SDS / math.sqrt(2)
    with np.errstate(divide="ignore", invalid="ignore"):
        slacks = (slack_s / margins_s * scale).tolist()
    sure = np.where(slack_s >= 0, 0.0, 1.0)
    ratios = [0.5 * math.erfc(slack) for slack in slacks]
    return np.where(margins_s > 0, ratios, sure)


def _take_hedged(
    batch: _Batch,
    rules: Rules,
    near: _Mask,
    sds_s: _Floats,
    ends_s: _Floats,
    best: _Floats,
    position: _Positions,
    clear: _Mask,
) -> None:
    """Put remote candidates that are better with a hedge in the place of those in time alone."""
    view, deadline_s, above = batch.view, rules.deadline_s, rules.hedge_above_ratio
    assert deadline_s is not None
    assert above is not None
    n, v = np.nonzero(near)
    late = _late_ratios(deadline_s - batch.latencies_s[n, v], sds_s[n, v] * batch.safety_sds[n])
    n, v, late = n[late >= above], v[late >= above], late[late >= above]
    left_s = deadline_s - batch.busy_s(n, v)
    is_in_time = ends_s[n][:, view.locals] <= left_s[:, None]
    local = view.arrays.accuracy[list(view.locals)][is_in_time.argmax(axis=1)]
    mixed = (1.0 - late) * view.arrays.accuracy[v] + late * local
    mixed[~is_in_time.any(axis=1)] = -1.0
    top = np.full(len(best), -1.0)
    np.maximum.at(top, n, mixed)
    rivals = np.bincount(n[(mixed >= top[n] - _CLOSE) & (mixed >= 0)], minlength=len(best))
    clear &= ((rivals <= 1) & (np.abs(top - best) > _CLOSE)) | (top < best - _CLOSE) | (top < 0)
    won = (mixed == top[n]) & (top > best)[n]
    position[n[won]] = v[won]


def _add_hedges(
    batch: _Batch,
    n: _Positions,
    v: _Positions,
    deadline_s: float,
    sds_s: _Floats | None,
    hedge: _Positions,
    start_s: _Floats,
    late: _Floats,
    clear: _Mask,
) -> None:
    """Give hedges to the candidates ``v`` at the instants ``n``; see ``hedging.hedge_for``."""
    view = batch.view
    positions = np.array(view.locals, np.intp)
    spreads_s = batch.spreads_s(positions) if sds_s is None else sds_s[:, positions]
    margins_s = spreads_s[n] * batch.safety_sds[n, None]
    latencies_s = batch.latencies_s[n][:, positions]
    ends_s = latencies_s + margins_s
    left_s = (deadline_s - batch.busy_s(n, v))[:, None]
    is_in_time = ends_s <= left_s
    accuracy = view.arrays.accuracy[positions]
    best = accuracy[is_in_time.argmax(axis=1)]
    chosen, is_alone = _least(latencies_s, is_in_time & (accuracy == best[:, None]))
    has_one = is_in_time.any(axis=1)
    is_close = (np.abs(ends_s - left_s) <= _CLOSE * deadline_s).any(axis=1)
    is_late = ~has_one & (latencies_s <= left_s * (1 + _CLOSE)).any(axis=1)  # starts at once
    clear[n] &= (is_alone | ~has_one) & ~is_close & ~is_late
    here = np.arange(len(n))[has_one]
    n, chosen = n[has_one], chosen[has_one]
    hedge[n] = view.arrays.row_index[positions[chosen]]
    start_s[n] = deadline_s - ends_s[here, chosen]
    late[n] *= np.where(margins_s[here, chosen] > 0, SAFE_RATIO, 0.0)

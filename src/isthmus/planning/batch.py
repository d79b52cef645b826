"""Batch: what ``planning.decide`` chooses at many instants, by whole arrays at once.

The rules are those of ``decide``, ``hedging`` and ``objectives``; this module has none of its own.
Sums come in another order here, so that rounding may differ: an instant at which two rows are so
close that this might matter is said not to be clear, and left to ``decide``.

Few candidates can win at an instant: those whose mean is in time, and which cost no more than the
best of those that are surely in time (``Instants.latest_s``). Only they are looked at closely.

Shapes: ``N`` instants, ``V`` candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import ConditionsError
from isthmus.planning.energy import watts_by_state
from isthmus.planning.hedging import SAFE_RATIO
from isthmus.planning.instants import Instants
from isthmus.planning.objectives import TIE_RATIO
from isthmus.planning.view import View
from isthmus.types.conditions import NORMAL_SDS, Conditions
from isthmus.types.plan import Rules

__all__ = ["AT_ONCE", "Decisions", "choose_many"]

_Floats = NDArray[np.float64]
_Positions = NDArray[np.intp]
_Mask = NDArray[np.bool_]

AT_ONCE = 2**15
"""Latencies predicted together: what stays in the processor's cache."""

_ALL = slice(None)
_CLOSE = 1e-11
"""Relative difference that is not left to rounding; sums of a few dozen terms err by 1e-14."""


@dataclass(frozen=True, eq=False)
class Decisions:
    """What was decided for each of ``N`` conditions.

    Attributes:
        index: Row of the table, int ``[N]``.
        latency_s: Predicted mean latency, float64 ``[N]``, seconds.
        latency_sd_s: Predicted standard deviation, float64 ``[N]``, seconds.
        slack_s: Deadline minus mean minus the safety margin, float64 ``[N]``, seconds; infinite
            without a deadline.
        late_ratio: Probability that no answer is in time, a hedge's counted, float64 ``[N]``.
        hedge_index: Row of the table of the hedge, int ``[N]``; -1 where there is none.
        hedge_start_s: Seconds after the request at which it starts, float64 ``[N]``; infinite
            where there is none.
    """

    index: _Positions
    latency_s: _Floats
    latency_sd_s: _Floats
    slack_s: _Floats
    late_ratio: _Floats
    hedge_index: _Positions
    hedge_start_s: _Floats


def choose_many(
    view: View, conditions: Sequence[Conditions], rules: Rules
) -> tuple[Decisions, _Mask]:
    """Return what is chosen at each instant, and where that does not hang on rounding.

    Args:
        view: The rows that may be chosen at all of them.
        conditions: ``N`` instants, at least one.
        rules: What the user asks for; a preference for a site is not looked at.

    Raises:
        ConditionsError: If a latency is not finite.
    """
    now = Instants(view, conditions)
    deadline_s = math.inf if rules.deadline_s is None else rules.deadline_s
    limit_s = math.inf if rules.objective == "least_latency" else deadline_s  # in time or not
    slop_s = 0.0 if limit_s == math.inf else _CLOSE * limit_s
    found = _searched(now, np.full(len(conditions), limit_s), _costs(now, rules), slop_s)
    late = _late_ratios(deadline_s - found.means_s, found.margins_s)
    hedges = np.full(len(conditions), -1, np.intp), np.full(len(conditions), math.inf)
    if rules.hedge_above_ratio is not None and rules.deadline_s is not None and view.locals:
        _hedge(now, found, late, rules, *hedges)
    best = found.best
    position, latency_s, sd_s = found.positions[best], found.means_s[best], found.sds_s[best]
    if not np.isfinite(latency_s + sd_s).all():
        raise ConditionsError("the predicted latency is not finite under these conditions")
    slack_s = deadline_s - latency_s - found.margins_s[best]
    chosen = Decisions(
        view.arrays.row_index[position], latency_s, sd_s, slack_s, late[best], *hedges
    )
    return chosen, found.is_clear


def _costs(now: Instants, rules: Rules) -> _Floats:
    """Return what candidates cost by the objective, float64 ``[V]`` or ``[N, V]``."""
    if rules.objective == "least_energy":
        return now.energies_j(watts_by_state(rules.power))
    if rules.objective == "greatest_throughput":
        return now.intervals_s()
    is_race = rules.objective == "least_latency" or rules.deadline_s is None  # see ``view``
    return now.latencies_s if is_race else now.view.arrays.rank


@dataclass(frozen=True, eq=False)
class _Search:
    """The ``Q`` pairs of an instant and a candidate that were looked at in ``M`` searches.

    Attributes:
        owners: The search that each pair belongs to, rising, int ``[Q]``.
        positions: Its candidate, int ``[Q]``.
        costs: What that costs, float64 ``[Q]``.
        means_s: Its mean latency, float64 ``[Q]``, seconds.
        sds_s: The standard deviation of that, float64 ``[Q]``, seconds.
        margins_s: The safety margin of that, float64 ``[Q]``, seconds.
        fits: Whether it is in time, bool ``[Q]``.
        least: What the best in time costs, float64 ``[M]``; infinite where none is in time.
        best: The best pair in time, or the fastest of all where none is, int ``[M]``.
        is_clear: Where the best does not hang on rounding, bool ``[M]``.
    """

    owners: _Positions
    positions: _Positions
    costs: _Floats
    means_s: _Floats
    sds_s: _Floats
    margins_s: _Floats
    fits: _Mask
    least: _Floats
    best: _Positions
    is_clear: _Mask


def _searched(
    now: Instants,
    limits_s: _Floats,
    costs: _Floats,
    slop_s: float,
    n: _Positions | slice = _ALL,
    v: _Positions | slice = _ALL,
) -> _Search:
    """Return the best of some candidates at some instants.

    That is the fastest of those that cost least, ties included, of all in time; if none is, the
    fastest.

    Args:
        now: All candidates at all instants.
        limits_s: What is in time for each search, float64 ``[M]``, seconds; infinite for all of
            them or for none.
        costs: What the candidates cost, float64 ``[W]``, ascending, or ``[M, W]``, as they must
            be without limits.
        slop_s: What rounding may make of the limits, seconds.
        n: The instant of each search.
        v: The candidates.
    """
    means_s = now.latencies_s[n][:, v]
    surely_s, hardly_s = limits_s - slop_s, limits_s + slop_s
    if limits_s[0] == math.inf:  # all are in time, and costs are of each
        is_worth = costs <= _with_ties(costs.min(axis=1))[:, None]
    else:
        is_sure = now.latest_s[n][:, v] <= surely_s[:, None]
        is_worth = _worth(means_s, hardly_s, is_sure, costs)
    owners, columns = np.divmod(np.flatnonzero(is_worth), means_s.shape[1])
    instants = np.arange(len(now.latencies_s))[n][owners]
    positions = np.arange(len(now.view.candidates))[v][columns]
    means_s = means_s[owners, columns]
    sds_s = now.spreads_s(instants, positions)
    margins_s = sds_s * now.safety_sds[instants]
    ends_s = means_s + margins_s
    fits = ends_s <= limits_s[owners]
    is_close = np.zeros(len(owners), bool)
    for figures_s in (means_s, ends_s):
        is_close |= (figures_s > surely_s[owners]) & (figures_s <= hardly_s[owners])
    costs = costs[columns] if costs.ndim == 1 else costs[owners, columns]
    least = _least(owners, fits, costs, len(limits_s))
    allowed = fits & (costs <= _with_ties(least)[owners])
    allowed |= (least == math.inf)[owners]
    fastest_s = _least(owners, allowed, means_s, len(limits_s))[owners]
    rivals = owners[allowed & (means_s <= fastest_s * (1.0 + _CLOSE))]
    is_clear = np.bincount(rivals, minlength=len(limits_s)) == 1
    is_clear[owners[is_close]] = False
    won = np.flatnonzero(allowed & (means_s == fastest_s))
    best = np.empty(len(limits_s), np.intp)
    best[owners[won]] = won
    return _Search(owners, positions, costs, means_s, sds_s, margins_s, fits, least, best, is_clear)


def _worth(means_s: _Floats, limits_s: _Floats, is_sure: _Mask, costs: _Floats) -> _Mask:
    """Return which candidates can be the best, bool ``[M, W]``.

    Those whose mean is in time and which cost no more than the best that is surely in time; where
    none is, the fastest, too.
    """
    if costs.ndim == 1:
        first = is_sure.argmax(axis=1)
        is_any = is_sure[np.arange(len(first)), first]
        least = np.where(is_any, costs[first], math.inf)
    else:
        least = np.where(is_sure, costs, math.inf).min(axis=1)
    is_worth: _Mask = means_s <= limits_s[:, None]
    is_worth &= costs <= _with_ties(least)[:, None]
    unsure = np.flatnonzero(least == math.inf)
    if len(unsure):
        fastest_s = means_s[unsure].min(axis=1, keepdims=True)
        is_worth[unsure] |= means_s[unsure] <= fastest_s * (1.0 + _CLOSE)
    return is_worth


def _with_ties(costs: _Floats) -> _Floats:
    """Return up to what costs are equal to some."""
    return costs * (1.0 + TIE_RATIO)


def _least(owners: _Positions, counts: _Mask, figures: _Floats, searches: int) -> _Floats:
    """Return the least figure of each search that counts; infinite where none does."""
    found = np.full(searches, math.inf)
    np.minimum.at(found, owners[counts], figures[counts])
    return found


def _late_ratios(slack_s: _Floats, margins_s: _Floats) -> _Floats:
    """Return ``hedging.late_ratio`` of many, from deadlines minus means and safety margins."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slacks = slack_s / margins_s * (NORMAL_SDS / math.sqrt(2))
    ratios = np.fromiter(map(math.erfc, slacks.tolist()), np.float64, len(slacks)) * 0.5
    return np.where(margins_s > 0, ratios, slack_s < 0)


def _hedge(
    now: Instants,
    found: _Search,
    late: _Floats,
    rules: Rules,
    hedge_index: _Positions,
    hedge_start_s: _Floats,
) -> None:
    """Give hedges to what is late too often, and take what is better with one: see ``hedging``.

    Args:
        now: All candidates at all instants.
        found: What was found without hedges; ``best`` and ``is_clear`` change in place.
        late: How often each pair is late, float64 ``[Q]``; with a hedge both, in place.
        rules: With a deadline and hedges.
        hedge_index: Rows of the table of the hedges, int ``[N]``, in place.
        hedge_start_s: When they start, float64 ``[N]``, seconds, in place.
    """
    arrays, deadline_s, above = now.view.arrays, rules.deadline_s, rules.hedge_above_ratio
    assert deadline_s is not None
    assert above is not None
    is_best = np.zeros(len(late), bool)
    is_best[found.best] = True
    is_near = (found.costs < found.least[found.owners]) & (found.means_s <= deadline_s)
    is_near &= rules.objective == "most_accurate"  # so that what costs less is more accurate
    is_hedged = (is_best | is_near) & (late >= above) & arrays.can_be_hedged[found.positions]
    pairs = np.flatnonzero(is_hedged)
    if not len(pairs):
        return
    n, v, locals_ = found.owners[pairs], found.positions[pairs], np.array(now.view.locals)
    left_s = deadline_s - now.busy_s(n, v)
    beside = _searched(now, left_s, arrays.rank[locals_], _CLOSE * deadline_s, n, locals_)
    has_one, hedge = beside.least < math.inf, beside.positions[beside.best]
    late_n = late[pairs]
    mixed = (1.0 - late_n) * arrays.accuracy[v] + late_n * arrays.accuracy[hedge]
    mixed[~(is_near[pairs] & has_one)] = -1.0
    alone = np.where(found.least < math.inf, arrays.accuracy[found.positions[found.best]], -1.0)
    top = np.full(len(alone), -1.0)
    np.maximum.at(top, n, mixed)
    rivals = np.bincount(n[mixed >= top[n] - _CLOSE], minlength=len(alone))
    is_close = (np.abs(top - alone) <= _CLOSE) | ((rivals > 1) & (top > alone))
    found.is_clear[is_close & (top >= 0)] = False
    won = (mixed == top[n]) & (top > alone)[n]
    found.best[n[won]] = pairs[won]

    is_taken = found.best[n] == pairs
    means_s, margins_s = beside.means_s[beside.best], beside.margins_s[beside.best]
    starts_at_once = ~has_one & (means_s <= left_s * (1.0 + _CLOSE))
    found.is_clear[n[~beside.is_clear | (is_taken & starts_at_once)]] = False
    is_taken &= has_one
    n, pairs, margins_s = n[is_taken], pairs[is_taken], margins_s[is_taken]
    hedge_index[n] = arrays.row_index[hedge[is_taken]]
    hedge_start_s[n] = deadline_s - (means_s[is_taken] + margins_s)
    late[pairs] *= np.where(margins_s > 0, SAFE_RATIO, 0.0)

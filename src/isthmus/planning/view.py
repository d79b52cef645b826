"""View: the rows of a plan table that may be chosen, laid out for deciding. It chooses none.

A decision is taken once a request, when the processor's caches hold something else, so that code
and data not touched count more than operations saved: the plans that may be chosen are laid out
once for each set of rules, and kept as long as their table.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import NoPlanError
from isthmus.planning.columns import BASES, Numbers, layout_of
from isthmus.types.conditions import Conditions
from isthmus.types.plan import STAGES, PlanRow, PlanTable, Rules

__all__ = ["Candidate", "View", "add_waits", "exclusions", "spread_s", "view_of"]

_AFTER_HEAD = STAGES.index("head") + 1
_UPLOAD = STAGES.index("upload")
_WAIT = STAGES.index("wait")
_UPLINK = BASES.index("uplink")
_VIEWS_KEPT = 64
_NONE: frozenset[str] = frozenset()
_NOTHING = b""


class Candidate(NamedTuple):
    """One row of a table as plain numbers.

    Attributes:
        row: What it does.
        row_index: Its row in the table.
        terms: Stage, base, feature and coefficient of all that is not zero; coefficients after
            an exit count as often as they are taken.
        residual_s: Standard deviation that the terms do not explain, seconds.
        accuracy: 0 to 1.
        sent_bytes: Mean bytes sent, the photograph not included.
        sent_bytes_sd: Their standard deviation.
        files: How often the photograph itself is sent.
        waits: How often it waits for its unit.
    """

    row: PlanRow
    row_index: int
    terms: tuple[tuple[str, int, int, float], ...]
    residual_s: float
    accuracy: float
    sent_bytes: float
    sent_bytes_sd: float
    files: float
    waits: float


class View(NamedTuple):
    """The ``V`` rows of a table that may be chosen; it must not hold the table itself.

    Attributes:
        candidates: The rows, the most accurate first, then in the table's order.
        sources: Base and feature of each of the ``L`` columns that some row needs.
        decode_targets: See ``columns.Layout``.
        totals: Coefficients summed over the stages, float64 ``[V, L]``.
        arrivals: Coefficients summed over the stages before ``wait``, float64 ``[V, L]``.
        largest: The largest of ``totals``.
        units: Candidates by the name of the server's unit that they need.
    """

    candidates: tuple[Candidate, ...]
    sources: tuple[tuple[int, int], ...]
    decode_targets: tuple[int, ...]
    totals: NDArray[np.float64]
    arrivals: NDArray[np.float64]
    largest: float
    units: Mapping[str, tuple[int, ...]]


_Restriction = tuple[
    frozenset[str] | None, frozenset[str] | None, bool, bool, bytes, bool, bool, frozenset[str]
]
_views: dict[int, dict[_Restriction, View]] = {}
"""Views by the identity of their table, as long as it lives."""


def view_of(table: PlanTable, conditions: Conditions, rules: Rules) -> View:
    """Return the rows that may be chosen; the last few views are kept as long as the table is.

    Raises:
        NoPlanError: If there are none.
    """
    never = _NONE
    if conditions.unit_ready_s:
        never = frozenset(
            u for u, ready_s in conditions.unit_ready_s.items() if ready_s == math.inf
        )
    limit = rules.max_sent_bytes
    key = (
        rules.variants,
        rules.families,
        rules.no_pixels_leave,
        rules.deadline_s is None and rules.objective == "most_accurate",
        _NOTHING if limit is None else _over_budget(table, conditions, limit).tobytes(),
        conditions.is_server_available,
        conditions.cloud is None,
        never,
    )
    views = _views.get(id(table))
    if views is None:
        views = _views[id(table)] = {}
        weakref.finalize(table, _views.pop, id(table)).atexit = False
    found = views.get(key)
    if found is None:
        found = _lay_out(table, _allowed(table, conditions, rules), is_best_only=key[3])
        if len(views) >= _VIEWS_KEPT:
            views.clear()
        views[key] = found
    return found


def _allowed(table: PlanTable, conditions: Conditions, rules: Rules) -> NDArray[np.bool_]:
    """Return which rows may be chosen, ``[P]``.

    Raises:
        NoPlanError: If there are none, with the reasons.
    """
    if not table.rows:
        raise NoPlanError("the plan table has no rows")
    excluded = exclusions(table, conditions, rules)
    allowed = np.ones(len(table.rows), bool)
    for rows in excluded.values():
        allowed &= ~rows
    if not allowed.any():
        reasons = "; ".join(f"{why} excludes {int(rows.sum())}" for why, rows in excluded.items())
        raise NoPlanError(f"none of {len(table.rows)} plans is left: {reasons}")
    return allowed


def exclusions(
    table: PlanTable, conditions: Conditions, rules: Rules
) -> dict[str, NDArray[np.bool_]]:
    """Return which rows may not be chosen, ``[P]`` for each reason, by the reason in words."""
    rows = table.rows
    found = {}
    if rules.variants is not None:
        names = rules.variants
        found[f"variants {sorted(names)}"] = np.array([r.variant not in names for r in rows])
    if rules.families is not None:
        kinds = rules.families
        found[f"families {sorted(kinds)}"] = np.array([r.family not in kinds for r in rows])
    if rules.no_pixels_leave:
        found["no_pixels_leave"] = np.array([r.has_pixels for r in rows])
    if rules.max_sent_bytes is not None:
        limit = rules.max_sent_bytes
        found[f"max_sent_bytes {limit}"] = _over_budget(table, conditions, limit)
    if not conditions.is_server_available:
        found["the server is not available"] = np.array([not r.is_local for r in rows])
    if conditions.cloud is None and any(r.cloud_tensors for r in rows):
        found["there is no cloud behind the server"] = np.array(
            [bool(r.cloud_tensors) for r in rows]
        )
    never = {u for u, ready_s in conditions.unit_ready_s.items() if ready_s == math.inf}
    never &= {row.unit for row in rows if not row.is_local}
    if never:
        found[f"never ready: {sorted(never)}"] = np.array(
            [not r.is_local and r.unit in never for r in rows]
        )
    return found


def _over_budget(table: PlanTable, conditions: Conditions, limit: float) -> NDArray[np.bool_]:
    """Return which rows would send more than ``limit`` bytes, the photograph included."""
    sent_bytes = table.sent_bytes
    if conditions.image is not None and "uplink_file_s" in table.columns:
        files = table.coefficients[:, _UPLOAD, table.columns.index("uplink_file_s")]
        sent_bytes = sent_bytes + files * conditions.image.file_bytes
    return np.asarray(sent_bytes > limit)


def _lay_out(table: PlanTable, allowed: NDArray[np.bool_], *, is_best_only: bool) -> View:
    """Return the view of the allowed rows (at least one), or of the most accurate of them."""
    if is_best_only:
        allowed = allowed & (table.accuracy == table.accuracy[allowed].max())
    indices = sorted(np.flatnonzero(allowed).tolist(), key=lambda index: -table.accuracy[index])
    weighted = table.coefficients[indices]
    weighted[:, _AFTER_HEAD:] *= (1.0 - table.exit_probability[indices])[:, None, None]
    needed = np.flatnonzero(weighted.any(axis=(0, 1))).tolist()
    layout = layout_of([table.columns[column] for column in needed])
    weighted = weighted[:, :, needed]
    totals = weighted.sum(axis=1)
    units: dict[str, tuple[int, ...]] = {}
    for position, index in enumerate(indices):
        row = table.rows[index]
        if not row.is_local:
            units[row.unit] = (*units.get(row.unit, ()), position)
    return View(
        tuple(
            _candidate(table, index, weighted[position], layout.sources)
            for position, index in enumerate(indices)
        ),
        layout.sources,
        layout.decode_targets,
        totals,
        table.coefficients[indices][:, :_WAIT, needed].sum(axis=1),
        float(totals.max(initial=0.0)),
        units,
    )


def _candidate(
    table: PlanTable,
    index: int,
    weighted: NDArray[np.float64],
    sources: Sequence[tuple[int, int]],
) -> Candidate:
    """Return one row, whose coefficients ``[S, L]`` are weighted by how often they count."""
    stages, columns = np.nonzero(weighted)
    terms = zip(stages.tolist(), columns.tolist(), weighted[stages, columns].tolist(), strict=True)
    files = 0.0
    if "uplink_file_s" in table.columns:
        file = table.columns.index("uplink_file_s")
        files = float(table.coefficients[index, _UPLOAD, file])
    return Candidate(
        row=table.rows[index],
        row_index=index,
        terms=tuple((STAGES[stage], *sources[column], seconds) for stage, column, seconds in terms),
        residual_s=float(table.residual_s[index]),
        accuracy=float(table.accuracy[index]),
        sent_bytes=float(table.sent_bytes[index]),
        sent_bytes_sd=float(table.sent_bytes_sd[index]),
        files=files,
        waits=1.0 - float(table.exit_probability[index]),
    )


def add_waits(
    view: View, unit_ready_s: Mapping[str, float], x: list[float], latencies_s: list[float]
) -> Mapping[int, float]:
    """Add to the latencies what remains of the units' getting ready; return it by position."""
    waiting = {
        position: ready_s
        for unit, ready_s in unit_ready_s.items()
        for position in view.units.get(unit, ())
    }
    if waiting:
        arrivals_s = view.arrivals.dot(x).tolist()
        for position, ready_s in waiting.items():
            wait_s = max(0.0, ready_s - arrivals_s[position]) * view.candidates[position].waits
            latencies_s[position] += wait_s
            waiting[position] = wait_s
    return waiting


def spread_s(candidate: Candidate, numbers: Numbers) -> float:
    """Return the standard deviation of a candidate's latency, seconds."""
    features = numbers.features
    moved = [0.0] * len(BASES)
    for _, base, feature, seconds in candidate.terms:
        moved[base] += seconds * features[feature]
    sent_s = numbers.values[_UPLINK] * candidate.sent_bytes_sd
    variance = candidate.residual_s * candidate.residual_s + sent_s * sent_s
    for base, sd in enumerate(numbers.sds):
        moved_s = moved[base] * sd
        variance += moved_s * moved_s
    return math.sqrt(variance)

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
from isthmus.planning.columns import BASES, layout_of
from isthmus.planning.energy import STAGES_BY_STATE
from isthmus.planning.slow_start import Slowed
from isthmus.planning.small_files import (
    SmallFiles,
    message_bytes,
    small_files_of,
    with_file_sent,
)
from isthmus.types.conditions import Conditions
from isthmus.types.plan import STAGES, PlanRow, PlanTable, Rules

__all__ = ["Candidate", "View", "exclusions", "view_of"]

_AFTER_HEAD = STAGES.index("head") + 1
_UPLOAD = STAGES.index("upload")
_WAIT = STAGES.index("wait")
_BEFORE_LINK = STAGES[: STAGES.index("connect")]
_VIEWS_KEPT = 64
_NONE: frozenset[str] = frozenset()
_NOTHING = b""
_DECODED_THERE = ("file", "resized")  # a resized row sends the file where that is the smaller one


class Candidate(NamedTuple):
    """One row of a table as plain numbers.

    Attributes:
        row: What it does.
        row_index: Its row in the table.
        terms: Stage, column of the view and coefficient of all that is not zero; coefficients
            after an exit count as often as they are taken.
        busy: Column and coefficient of those terms that keep the device busy before the link.
        shares: The same terms as seconds of each feature, all stages together: a base, its first
            feature and seconds, and its further ones.
        residual_s: Standard deviation that the terms do not explain, seconds.
        accuracy: 0 to 1.
        sent_bytes: Mean bytes sent, the photograph not included.
        sent_bytes_sd: Their standard deviation.
        files: How often the photograph itself is sent.
        waits: How often it goes on to its unit instead of leaving at its exit.
        can_be_hedged: Whether the device has nothing to do once the message is sent.
    """

    row: PlanRow
    row_index: int
    terms: tuple[tuple[str, int, float], ...]
    busy: tuple[tuple[int, float], ...]
    shares: tuple[tuple[int, int, float, tuple[tuple[int, float], ...]], ...]
    residual_s: float
    accuracy: float
    sent_bytes: float
    sent_bytes_sd: float
    files: float
    waits: float
    can_be_hedged: bool


class View(NamedTuple):
    """The ``V`` rows of a table that may be chosen; it must not hold the table itself.

    Attributes:
        candidates: The rows, the most accurate first, then in the table's order.
        sources: Base and feature of each of the ``L`` columns that some row needs.
        decode_targets: See ``columns.Layout``.
        totals: Coefficients summed over the stages, float64 ``[V, L]``.
        arrivals: Coefficients summed over the stages before ``wait``, float64 ``[V, L]``.
        bounds: ``totals``, and of each candidate ``sent_bytes_sd``, 1 and ``residual_s``: what
            deviations, summed, are no less than its spread; float64 ``[V, L + 3]``.
        largest: The largest of ``totals``.
        units: Candidates by the name of the server's unit that they need.
        locals: The local candidates.
        states: With ``least_energy``, ``totals`` by what the device does meanwhile, float64
            ``[4, V, L]``, in the order of ``energy.STAGES_BY_STATE``; else empty.
        arrays: Figures of all candidates, for deciding many at once.
        limits: By the window's bytes, sizes of photographs at which the rounds of TCP's slow
            start change; remembered by ``slow_start``.
        slowed: Candidates by window, rounds until the link is full, and which of those sizes
            the photograph lies between; likewise.
        is_local: Which candidates are local, bool ``[V]``.
    """

    candidates: tuple[Candidate, ...]
    sources: tuple[tuple[int, int], ...]
    decode_targets: tuple[int, ...]
    totals: NDArray[np.float64]
    arrivals: NDArray[np.float64]
    bounds: NDArray[np.float64]
    largest: float
    units: Mapping[str, tuple[int, ...]]
    locals: tuple[int, ...]
    states: NDArray[np.float64]
    arrays: Arrays
    limits: dict[float, list[float]]
    slowed: dict[tuple[float, int, int], Slowed]
    is_local: NDArray[np.bool_]


class Arrays(NamedTuple):
    """Figures of candidates, ``[V]`` each, named as in ``Candidate``, but for these.

    Attributes:
        rank: How many greater accuracies there are.
        message_bytes: ``sent_bytes`` of remote ones, 0 of local ones.
        busy: Coefficients summed over the device's stages before the link, float64 ``[V, L]``.
        bases: Of the view's columns, int ``[L]``; see ``View.sources``.
        features: Likewise.
        is_of_base: 1 where a column is of a base, float64 ``[B, L]``.
    """

    row_index: NDArray[np.intp]
    accuracy: NDArray[np.float64]
    rank: NDArray[np.float64]
    residual_s: NDArray[np.float64]
    message_bytes: NDArray[np.float64]
    sent_bytes_sd: NDArray[np.float64]
    files: NDArray[np.float64]
    waits: NDArray[np.float64]
    can_be_hedged: NDArray[np.bool_]
    busy: NDArray[np.float64]
    bases: NDArray[np.intp]
    features: NDArray[np.intp]
    is_of_base: NDArray[np.float64]


_Restriction = tuple[
    frozenset[str] | None,
    frozenset[str] | None,
    bool,
    str,
    bytes,
    bool,
    bool,
    bool,
    frozenset[str],
    int,
]


class _Kept(NamedTuple):
    """What is kept of a table."""

    small: SmallFiles
    views: dict[_Restriction, View]


_kept: dict[int, _Kept] = {}
"""By the identity of the table, as long as it lives."""


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
    small, views = _kept.get(id(table)) or _keep(table)
    images_made = small.images_made(conditions.image)
    key = (
        rules.variants,
        rules.families,
        rules.no_pixels_leave,
        _layout_for(rules),
        _NOTHING if limit is None else _over_budget(table, conditions, limit).tobytes(),
        conditions.is_server_available,
        conditions.decodes_alike or rules.allow_other_pixels,
        conditions.cloud is None,
        never,
        images_made,
    )
    found = views.get(key)
    if found is None:
        allowed = _allowed(table, conditions, rules)
        found = _lay_out(with_file_sent(table, small, images_made), allowed, key[3])
        if len(views) >= _VIEWS_KEPT:
            views.clear()
        views[key] = found
    return found


def _keep(table: PlanTable) -> _Kept:
    """Keep what is found out about a table as long as it lives."""
    found = _kept[id(table)] = _Kept(small_files_of(table), {})
    weakref.finalize(table, _kept.pop, id(table)).atexit = False
    return found


def _layout_for(rules: Rules) -> str:
    """Return what a view must hold beyond the rows that are allowed."""
    if rules.objective == "least_energy":
        return "energy"
    if rules.objective == "most_accurate" and rules.deadline_s is None:
        return "best only"
    return ""


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
        names, told = rules.variants, ", ".join(sorted(rules.variants))
        found[f"variants {told}"] = np.array([r.variant not in names for r in rows])
    if rules.families is not None:
        kinds, told = rules.families, ", ".join(sorted(rules.families))
        found[f"families {told}"] = np.array([r.family not in kinds for r in rows])
    if rules.no_pixels_leave:
        found["no_pixels_leave"] = np.array([r.has_pixels for r in rows])
    if rules.max_sent_bytes is not None:
        limit = rules.max_sent_bytes
        found[f"max_sent_bytes {limit}"] = _over_budget(table, conditions, limit)
    if not conditions.is_server_available:
        found["the server is not available"] = np.array([not r.is_local for r in rows])
    if not (conditions.decodes_alike or rules.allow_other_pixels):
        found["the server decodes photographs to other pixels (allow_other_pixels is off)"] = (
            np.array([r.family in _DECODED_THERE for r in rows])
        )
    if conditions.cloud is None and any(r.cloud_tensors for r in rows):
        found["there is no cloud behind the server"] = np.array(
            [bool(r.cloud_tensors) for r in rows]
        )
    never = {u for u, ready_s in conditions.unit_ready_s.items() if ready_s == math.inf}
    never &= {row.unit for row in rows if not row.is_local}
    if never:
        found[f"never ready: {', '.join(sorted(never))}"] = np.array(
            [not r.is_local and r.unit in never for r in rows]
        )
    return found


def _over_budget(table: PlanTable, conditions: Conditions, limit: float) -> NDArray[np.bool_]:
    """Return which rows would send more than ``limit`` bytes, the photograph included."""
    small = (_kept.get(id(table)) or _keep(table)).small
    return np.asarray(message_bytes(table, small, conditions.image) > limit)


def _lay_out(table: PlanTable, allowed: NDArray[np.bool_], layout_for: str) -> View:
    """Return the view of the allowed rows (at least one), or of the most accurate of them."""
    if layout_for == "best only":
        allowed = allowed & (table.accuracy == table.accuracy[allowed].max())
    indices = sorted(np.flatnonzero(allowed).tolist(), key=lambda index: -table.accuracy[index])
    weighted = table.coefficients[indices]
    weighted[:, _AFTER_HEAD:] *= (1.0 - table.exit_probability[indices])[:, None, None]
    needed = np.flatnonzero(weighted.any(axis=(0, 1))).tolist()
    layout = layout_of([table.columns[column] for column in needed])
    weighted = weighted[:, :, needed]
    totals = weighted.sum(axis=1)
    bases = np.array([base for base, _ in layout.sources], np.intp)
    residual_s, sent_bytes_sd = table.residual_s[indices], table.sent_bytes_sd[indices]
    candidates = tuple(
        _candidate(table, index, weighted[position], layout.sources)
        for position, index in enumerate(indices)
    )
    units: dict[str, tuple[int, ...]] = {}
    for position, candidate in enumerate(candidates):
        if not candidate.row.is_local:
            units[candidate.row.unit] = (*units.get(candidate.row.unit, ()), position)
    states = np.empty((0, 0, 0))
    if layout_for == "energy":
        states = np.stack(
            [
                weighted[:, [STAGES.index(stage) for stage in stages]].sum(axis=1)
                for stages in STAGES_BY_STATE.values()
            ]
        )
    return View(
        candidates,
        layout.sources,
        layout.decode_targets,
        totals,
        table.coefficients[indices][:, :_WAIT, needed].sum(axis=1),
        np.column_stack((totals, sent_bytes_sd, np.ones(len(indices)), residual_s)),
        float(totals.max(initial=0.0)),
        units,
        locals=tuple(i for i, candidate in enumerate(candidates) if candidate.row.is_local),
        states=states,
        arrays=Arrays(
            row_index=np.array(indices, np.intp),
            accuracy=table.accuracy[indices],
            rank=np.unique(-table.accuracy[indices], return_inverse=True)[1].astype(np.float64),
            residual_s=residual_s,
            message_bytes=np.array([0 if c.row.is_local else c.sent_bytes for c in candidates]),
            sent_bytes_sd=sent_bytes_sd,
            files=np.array([c.files for c in candidates]),
            waits=1.0 - table.exit_probability[indices],
            can_be_hedged=np.array([c.can_be_hedged for c in candidates]),
            busy=weighted[:, : len(_BEFORE_LINK)].sum(axis=1),
            bases=bases,
            features=np.array([feature for _, feature in layout.sources], np.intp),
            is_of_base=np.eye(len(BASES))[:, bases],
        ),
        limits={},
        slowed={},
        is_local=np.array([c.row.is_local for c in candidates]),
    )


def _candidate(
    table: PlanTable,
    index: int,
    weighted: NDArray[np.float64],
    sources: Sequence[tuple[int, int]],
) -> Candidate:
    """Return one row, whose coefficients ``[S, L]`` are weighted by how often they count."""
    stages, columns = np.nonzero(weighted)
    seconds = weighted[stages, columns].tolist()
    terms = tuple(
        (STAGES[stage], column, s)
        for stage, column, s in zip(stages.tolist(), columns.tolist(), seconds, strict=True)
    )
    files = 0.0
    if "uplink_file_s" in table.columns:
        file = table.columns.index("uplink_file_s")
        files = float(table.coefficients[index, _UPLOAD, file])
    shares: dict[int, dict[int, float]] = {}
    for _, column, s in terms:
        base, feature = sources[column]
        of_base = shares.setdefault(base, {})
        of_base[feature] = of_base.get(feature, 0.0) + s
    row = table.rows[index]
    return Candidate(
        row=row,
        row_index=index,
        terms=terms,
        busy=tuple((column, s) for stage, column, s in terms if stage in _BEFORE_LINK),
        shares=tuple(
            (base, *next(iter(parts.items())), tuple(parts.items())[1:])
            for base, parts in sorted(shares.items())
        ),
        residual_s=float(table.residual_s[index]),
        accuracy=float(table.accuracy[index]),
        sent_bytes=float(table.sent_bytes[index]),
        sent_bytes_sd=float(table.sent_bytes_sd[index]),
        files=files,
        waits=1.0 - float(table.exit_probability[index]),
        can_be_hedged=not row.is_local and not any(stage == "tail" for stage, *_ in terms),
    )

"""Compile measured rows into a plan table; it measures nothing and decides nothing.

Which terms a row has follows from its family (``docs/plan-table.md``)::

    family    device side                       server side            device again
    local     decode, preprocess, head          -
    file      -                                 server_decode, server
    resized   decode, preprocess, encode        server_decode, server
    tensor    decode, preprocess, encode        server_decode, server
    split     decode, preprocess, head, encode  server_decode, server
    returned  decode, preprocess, encode        server_decode, server  tail

Every remote row has the link's terms too (``link_terms``): ``connect``, ``upload`` and
``download``. ``wait`` is not linear and never has terms. A third site behind the server works while
the device waits for the server: all that it does is part of the stage ``server``, its own layers as
well as the second hop (``cloud_hop_terms``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from isthmus.types.plan import STAGES, Family, PlanRow, PlanTable

__all__ = ["PlanEntry", "Terms", "cloud_hop_terms", "compile_table", "link_terms"]

Terms = Mapping[str, Mapping[str, float]]
"""Seconds per unit of a column, by stage and column; what is absent is zero."""

_LINK_STAGES = ("connect", "upload", "download")
_CLOUD = "cloud"


@dataclass(frozen=True)
class PlanEntry:
    """One row of a table before it is compiled: what it does, and what was measured.

    Attributes:
        row: What the plan does.
        terms: Its coefficients, by stage and column.
        residual_s: Standard deviation of the latency that the terms do not explain, seconds.
        sent_bytes: Mean bytes sent, the photograph's own size not included.
        sent_bytes_sd: Their standard deviation.
        accuracy: Expected accuracy, 0 to 1, agreement included; 0 where nobody says.
        agreement: Share of inputs answered as the lossless plan answers; 1 if lossless.
        exit_probability: How often the plan ends after the stage ``head``; 0 without an exit.
    """

    row: PlanRow
    terms: Terms = field(repr=False)
    residual_s: float = 0.0
    sent_bytes: float = 0.0
    sent_bytes_sd: float = 0.0
    accuracy: float = 0.0
    agreement: float = 1.0
    exit_probability: float = 0.0


_SCALARS = (
    "residual_s", "sent_bytes", "sent_bytes_sd", "accuracy", "agreement", "exit_probability",
)  # fmt: skip
_RATIOS = ("accuracy", "agreement", "exit_probability")


def link_terms(
    family: Family, *, sent_bytes: float, received_bytes: float, sends_file: bool = False
) -> Terms:
    """Return what a row of ``family`` pays to the link, to be merged into its terms.

    Half a round trip each way, a whole one where no connection is open, and the bytes. A
    ``file`` row sends the photograph, whose size the conditions know, beside ``sent_bytes``.

    Args:
        family: The row's family.
        sent_bytes: Mean bytes sent, framing included, the photograph's own size not included.
        received_bytes: Mean bytes of the reply, framing included; for a ``returned`` row, the
            tensors that the device goes on with.
        sends_file: Whether a row of another family than ``file`` sends the photograph, too.

    Returns:
        The terms of ``connect``, ``upload`` and ``download``; none for ``local``.
    """
    if family == "local":
        return {}
    upload = {"rtt_s": 0.5, "uplink_s_per_byte": float(sent_bytes)}
    if family == "file" or sends_file:
        upload["uplink_file_s"] = 1.0
    return {
        "connect": {"connect_s": 1.0},
        "upload": upload,
        "download": {"rtt_s": 0.5, "downlink_s_per_byte": float(received_bytes)},
    }


def cloud_hop_terms(*, sent_bytes: float, received_bytes: float) -> Mapping[str, float]:
    """Return what a row pays to the hop behind the server, to be merged into its stage ``server``.

    One round trip, there and back, and the bytes. The server keeps its connection to the cloud
    open, so that nothing is paid to connect.

    Args:
        sent_bytes: Mean bytes that the server sends on, framing included.
        received_bytes: Mean bytes of the cloud's reply, framing included.
    """
    return {
        "cloud_rtt_s": 1.0,
        "cloud_uplink_s_per_byte": float(sent_bytes),
        "cloud_downlink_s_per_byte": float(received_bytes),
    }


def compile_table(entries: Sequence[PlanEntry], columns: tuple[str, ...]) -> PlanTable:
    """Return the table of ``entries``, one row each, in their order.

    Args:
        entries: The rows; at least one.
        columns: Names of the conditions' columns, see ``columns_for``.

    Raises:
        ValueError: If there is no entry, if a stage or column is not known, if a number is not
            finite, negative or (for ratios) above 1, or if the terms do not fit the row's family.
    """
    if not entries:
        raise ValueError("a plan table needs at least one row")
    if len(set(columns)) != len(columns):
        raise ValueError("columns are named twice")
    stage_index = {name: i for i, name in enumerate(STAGES)}
    column_index = {name: i for i, name in enumerate(columns)}
    coefficients = np.zeros((len(entries), len(STAGES), len(columns)))
    for index, entry in enumerate(entries):
        _check(entry, column_index)
        for stage, terms in entry.terms.items():
            for column, value in terms.items():
                coefficients[index, stage_index[stage], column_index[column]] = value
    scalars = {name: np.array([float(getattr(e, name)) for e in entries]) for name in _SCALARS}
    return PlanTable(tuple(e.row for e in entries), tuple(columns), coefficients, **scalars)


def _check(entry: PlanEntry, columns: Mapping[str, int]) -> None:
    """Refuse an entry that would not mean what its author thinks.

    Raises:
        ValueError: With the row's label, and what is wrong with it.
    """
    label = entry.row.label
    for stage, terms in entry.terms.items():
        if stage not in STAGES or stage == "wait":
            raise ValueError(f"{label}: {stage!r} is no stage with terms; stages are {STAGES}")
        for column, value in terms.items():
            if column not in columns:
                raise ValueError(f"{label}: the table has no column {column!r}")
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{label}: {stage} {column} must be finite, >= 0, got {value}")
    for name in _SCALARS:
        value = getattr(entry, name)
        limit = 1.0 if name in _RATIOS else math.inf
        if not (math.isfinite(value) and 0 <= value <= limit):
            raise ValueError(f"{label}: {name} must be from 0 to {limit}, got {value}")
    linked = [stage for stage in _LINK_STAGES if any(entry.terms.get(stage, {}).values())]
    if entry.row.is_local and linked:
        raise ValueError(f"{label}: a local row pays nothing to the link, got {linked}")
    if not entry.row.is_local and linked != list(_LINK_STAGES):
        raise ValueError(f"{label}: a remote row needs terms in {_LINK_STAGES}; see link_terms")
    if (entry.row.family == "returned") != any(entry.terms.get("tail", {}).values()):
        raise ValueError(f"{label}: a `returned` row, and no other, needs terms in `tail`")
    clouded = {s for s, terms in entry.terms.items() if any(c.startswith(_CLOUD) for c in terms)}
    if clouded != ({"server"} if entry.row.cloud_tensors else set()):
        raise ValueError(
            f"{label}: a row with cloud_tensors, and no other, needs the cloud's columns, all in "
            f"the stage `server`, got {sorted(clouded)}; see cloud_hop_terms"
        )

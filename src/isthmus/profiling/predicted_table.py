"""A plan table for a device that is absent: what was not measured there is predicted.

Every time of the device comes from a site model, those of the server from another or as they were
profiled. It measures nothing, and saves nothing: a predicted table never becomes a bundle's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import BundleError
from isthmus.estimation.site_model import Predicted, SiteModel
from isthmus.loading.bundle import Bundle, Candidate
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.types.cut import device_layers
from isthmus.types.graph import ModelGraph
from isthmus.types.plan import STAGES, PlanRow, PlanTable

__all__ = ["PredictedTable", "predict_table"]

_HEAD, _SERVER, _TAIL = (STAGES.index(name) for name in ("head", "server", "tail"))
_INPUT_STAGES = [STAGES.index(name) for name in ("decode", "preprocess", "encode")]
_SERVER_DECODE = STAGES.index("server_decode")
_MESSAGE_BYTES = 400
"""Headers and framing of one message, where nothing was sent yet."""

_BYTES_PER_PIXEL = {"jpeg-95": 0.64, "jpeg-85": 0.35, "jpeg-75": 0.26, "webp-lossless": 1.53}
"""Of a resized photograph: the zoo's at 224 pixels (``docs/concepts/input-pipeline.md``)."""

_ELEMENT_BYTES = {"u8": 1.0, "u8c": 1.0, "fp16": 2.0}
_ZSTD_RATIO = 0.5
"""What a compressed tensor is taken to shrink to: ReLU's shrink more, linear ones less."""


@dataclass(frozen=True)
class PredictedTable:
    """A table that nobody measured.

    Attributes:
        table: To decide with.
        device: Name of the device's model.
        server: That of the server's; empty where its times are as profiled.
        warnings: Why the figures may be wrong, as sentences.
    """

    table: PlanTable
    device: str
    server: str
    warnings: tuple[str, ...]


def predict_table(
    bundle: Bundle,
    graphs: Mapping[str, ModelGraph],
    device: SiteModel,
    *,
    server: SiteModel | None = None,
    is_loaded: bool = True,
) -> PredictedTable:
    """Predict the plan table of a bundle on an absent device.

    Where the bundle was profiled on another device, that table is kept but for what the device
    does: its layers are predicted, decoding, resizing and encoding are scaled as the layers of the
    whole networks are. Where it was not, the server's layers are predicted too, bytes are taken
    from shapes, and the input pipeline and codecs count nothing.

    Args:
        bundle: What would run.
        graphs: The bundle's networks, by name.
        device: The device's model.
        server: The server's; needed for a bundle that was not profiled.
        is_loaded: Whether the device has its networks in memory; else each inference loads its
            part, as in Edgent's table.

    Raises:
        BundleError: If the bundle was not profiled and there is no model of the server.
    """
    warnings = [text for graph in graphs.values() for text in device.warnings(graph)]
    if server is not None:
        warnings += [text for graph in graphs.values() for text in server.warnings(graph)]
    sites = [device] if server is None else [device, server]
    warnings += [limit for site in sites for limit in site.limits]
    warnings += [
        f"{site.name}: its error is unknown; no spread is given"
        for site in sites
        if site.spread_ratio == 0
    ]
    if bundle.table is not None:
        table = _retimed(bundle.table, graphs, device, server, is_loaded)
    elif server is None:
        raise BundleError(
            f"{bundle.path} has not been profiled: say --server-model, too, or run "
            f"`isthmus profile {bundle.path} --server URL` on any device"
        )
    else:
        warnings.append("decoding, resizing and codecs are not in these models: counted as nothing")
        entries = [_entry(bundle, c, graphs, device, server, is_loaded) for c in bundle.candidates]
        targets = {
            v.pipeline.resize_shorter_side_px for v in bundle.variants.values() if v.pipeline
        }
        table = compile_table(entries, columns_for(targets))
    name = server.name if server is not None else ""
    return PredictedTable(table, device.name, name, tuple(dict.fromkeys(warnings)))


@dataclass(frozen=True)
class _Times:
    """What the layers of one row take: here before the cut, there, and here again."""

    head: Predicted
    server: Predicted | None
    tail: Predicted


def _times(
    row: PlanRow,
    graph: ModelGraph,
    device: SiteModel,
    server: SiteModel | None,
    is_loaded: bool,
) -> _Times:
    everything = frozenset(range(len(graph.layers)))
    nothing: frozenset[int] = frozenset()
    if row.family in ("split", "returned"):
        before = device_layers(graph, row.tensors)
    else:
        before = everything if row.is_local else nothing
    after = everything - before
    head, there, tail = before, after, nothing
    if row.family == "returned":
        head, there, tail = nothing, before, after
    return _Times(
        device.part(graph, head, is_loaded=is_loaded),
        server.part(graph, there) if server is not None else None,
        device.part(graph, tail, is_loaded=is_loaded),
    )


def _retimed(
    measured: PlanTable,
    graphs: Mapping[str, ModelGraph],
    device: SiteModel,
    server: SiteModel | None,
    is_loaded: bool,
) -> PlanTable:
    """Return a measured table with the device's (and the server's) times predicted."""
    coefficients = measured.coefficients.copy()
    here, there = measured.columns.index("device"), measured.columns.index("server")
    residual_s = measured.residual_s.copy()
    ratio = _slowdown(measured, graphs, device, "local", _HEAD, here)
    coefficients[:, _INPUT_STAGES] *= ratio
    if server is not None:
        coefficients[:, _SERVER_DECODE] *= _slowdown(
            measured, graphs, server, "tensor", _SERVER, there
        )
    for index, row in enumerate(measured.rows):
        times = _times(row, graphs[row.variant], device, server, is_loaded)
        _set(coefficients, index, _HEAD, here, times.head.seconds)
        _set(coefficients, index, _TAIL, here, times.tail.seconds)
        spreads = [residual_s[index], times.head.sd_s, times.tail.sd_s]
        if times.server is not None and not row.cloud_tensors:
            _set(coefficients, index, _SERVER, there, times.server.seconds)
            spreads.append(times.server.sd_s)
        residual_s[index] = math.hypot(*spreads)
    return replace(measured, coefficients=coefficients, residual_s=residual_s)


def _set(table: NDArray[np.float64], row: int, stage: int, column: int, seconds: float) -> None:
    table[row, stage] = 0.0
    table[row, stage, column] = seconds


def _slowdown(
    measured: PlanTable,
    graphs: Mapping[str, ModelGraph],
    site: SiteModel,
    family: str,
    stage: int,
    column: int,
) -> float:
    """Return the median ratio of predicted to measured time of whole networks; 1 without any."""
    ratios = [
        site.part(graphs[row.variant], range(len(graphs[row.variant].layers))).seconds / seconds
        for row, seconds in zip(measured.rows, measured.coefficients[:, stage, column], strict=True)
        if row.family == family and seconds > 0
    ]
    return float(np.median(ratios)) if ratios else 1.0


def _entry(
    bundle: Bundle,
    candidate: Candidate,
    graphs: Mapping[str, ModelGraph],
    device: SiteModel,
    server: SiteModel,
    is_loaded: bool,
) -> PlanEntry:
    row = candidate.row
    graph = graphs[row.variant]
    times = _times(row, graph, device, server, is_loaded)
    assert times.server is not None
    terms: dict[str, Mapping[str, float]] = {
        "head": {"device": times.head.seconds},
        "server": {"server": times.server.seconds},
        "tail": {"device": times.tail.seconds},
    }
    sent_bytes = _sent_bytes(row, graph) if not row.is_local else 0.0
    received = _MESSAGE_BYTES + sum(graph.tensors[name].size_bytes for name in graph.outputs)
    terms |= link_terms(row.family, sent_bytes=sent_bytes, received_bytes=received)
    accuracy = bundle.variants[row.variant].accuracy
    return PlanEntry(
        row=row,
        terms={stage: term for stage, term in terms.items() if any(term.values())},
        residual_s=math.hypot(times.head.sd_s, times.server.sd_s, times.tail.sd_s),
        sent_bytes=sent_bytes,
        accuracy=(accuracy.ratio if accuracy else 0.0) * candidate.agreement,
        agreement=candidate.agreement,
    )


def _sent_bytes(row: PlanRow, graph: ModelGraph) -> float:
    """Return the bytes that a row would send, the photograph's own aside, from shapes alone."""
    if row.family == "file":
        return _MESSAGE_BYTES
    if row.family == "resized":
        pixels = max(math.prod(graph.tensors[name].shape[2:]) for name in graph.inputs)
        return _MESSAGE_BYTES + _BYTES_PER_PIXEL[row.codec] * pixels
    tensors = [graph.tensors[name] for name in (row.tensors or graph.inputs)]
    carries = row.codec.partition("+")[0]
    per_element = _ELEMENT_BYTES.get(carries)
    sizes = [
        t.size_bytes if per_element is None else per_element * math.prod(t.shape) for t in tensors
    ]
    return _MESSAGE_BYTES + sum(sizes) * (_ZSTD_RATIO if row.codec.endswith("zstd") else 1.0)

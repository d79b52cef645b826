"""From runs to the entries of a plan table: what each stage of each row costs. It runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isthmus.estimation.fit import spread
from isthmus.loading.bundle import Candidate
from isthmus.planning.plan_table import PlanEntry, Terms, link_terms
from isthmus.profiling.input_runs import InputCosts
from isthmus.profiling.observed import MEASURED, Observed, RowRuns
from isthmus.types.plan import Family, PlanRow
from isthmus.types.variant import InputPipeline, Variant

__all__ = ["entries_of", "stage_medians"]

_REPLY_HEADER_BYTES = 250


def entries_of(
    variant: Variant, candidates: Sequence[Candidate], runs: Sequence[RowRuns], inputs: InputCosts
) -> list[PlanEntry]:
    """Return what the candidates of one network cost.

    Args:
        variant: The network; it takes photographs.
        candidates: Its plans.
        runs: Of each of them, in the same order.
        inputs: What the input pipeline costs.
    """
    return [
        _entry(variant, candidate, found, constant, inputs)
        for candidate, found, constant in zip(candidates, runs, stage_medians(runs), strict=True)
    ]


def stage_medians(runs: Sequence[RowRuns]) -> list[dict[str, float]]:
    """Return the median of every measured stage, seconds, for the rows of one network.

    Rows that do the same in a stage share their measurements of it: a head and a tail do not
    depend on the codec between them, nor normalising on the cut behind it.
    """
    shared: dict[tuple[str, ...], list[float]] = {}
    for found in runs:
        for stage in MEASURED:
            values = [one.seconds.get(stage, 0.0) for one in _typical(found)]
            shared.setdefault(_sharing(found.row, stage), []).extend(values)
    medians = {key: float(np.median(values)) for key, values in shared.items()}
    return [{stage: medians[_sharing(found.row, stage)] for stage in MEASURED} for found in runs]


def _entry(
    variant: Variant,
    candidate: Candidate,
    runs: RowRuns,
    constant: Mapping[str, float],
    inputs: InputCosts,
) -> PlanEntry:
    row, pipeline = candidate.row, variant.pipeline
    assert pipeline is not None  # a bundle's networks take photographs
    observed = _typical(runs)
    own_bytes = [o.sent_bytes - (o.file_bytes if row.family == "file" else 0) for o in observed]
    received = [o.received_bytes + _REPLY_HEADER_BYTES for o in observed]
    terms = {
        **_device_terms(row.family, constant, pipeline, inputs),
        **_server_terms(row.family, constant, pipeline, inputs),
        **link_terms(
            row.family,
            sent_bytes=float(np.mean(own_bytes)),
            received_bytes=float(np.mean(received)),
        ),
    }
    published = variant.accuracy.ratio if variant.accuracy else 0.0
    return PlanEntry(
        row=row,
        terms=terms,
        residual_s=spread([one.steady_s(row) for one in observed]),
        sent_bytes=float(np.mean(own_bytes)),
        sent_bytes_sd=float(np.std(own_bytes)),
        accuracy=published * candidate.agreement,
        agreement=candidate.agreement,
    )


def _typical(runs: RowRuns) -> Sequence[Observed]:
    """Return the counted runs that did what the row says.

    A row that resizes sends the file itself where that is the smaller one: what it then takes
    is told by the conditions, which know the photograph, and not by the row.
    """
    if runs.row.family == "file":
        return runs.counted
    return [one for one in runs.counted if not one.sent_file] or runs.counted


def _sharing(row: PlanRow, stage: str) -> tuple[str, ...]:
    """Return what rows have in common that do the same in a stage."""
    if stage == "preprocess" and row.family in ("local", "split"):
        return (stage,)
    if stage in ("head", "server") and row.family == "split":
        return (stage, row.cut_id)
    return (stage, row.family, row.cut_id, row.codec)


def _device_terms(
    family: Family,
    constant: Mapping[str, float],
    pipeline: InputPipeline,
    inputs: InputCosts,
) -> Terms:
    if family == "file":
        return {"decode": {"device": inputs.header_s}, "encode": {"device": constant["encode"]}}
    resize = dict(inputs.device_resize[pipeline])
    resize["device"] += constant["preprocess"]
    terms = {
        "decode": inputs.device_decode[pipeline.resize_shorter_side_px],
        "preprocess": resize,
        "head": {"device": constant["head"]},
    }
    if family != "local":
        terms["encode"] = {"device": constant["encode"]}
    return terms


def _server_terms(
    family: Family,
    constant: Mapping[str, float],
    pipeline: InputPipeline,
    inputs: InputCosts,
) -> Terms:
    if family == "local":
        return {}
    decode = inputs.server[pipeline] if family == "file" else {"server": constant["server_decode"]}
    return {"server_decode": decode, "server": {"server": constant["server"]}}

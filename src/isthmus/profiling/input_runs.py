"""Run the input pipeline on both sides over a ladder of images.

What its times amount to is ``profiling.input_costs``'s work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isthmus.profiling.input_costs import (
    FitError,
    Sample,
    Terms,
    decode_terms,
    fit_errors,
    resize_terms,
)
from isthmus.profiling.ladder import RUNGS_DIGEST, Rung, image_ladder
from isthmus.profiling.shelf import Shelf
from isthmus.runtime.clock import Pace
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.types.conditions import ImageFacts
from isthmus.types.plan import PlanRow
from isthmus.types.progress import Progress
from isthmus.types.variant import InputPipeline

__all__ = ["InputCosts", "measure_inputs", "photographs_digest"]

_LADDER_ROUNDS = 3
_TIMEOUT_S = 60.0
_STAGES = ("header", "decode", "preprocess", "server_decode")


@dataclass(frozen=True)
class InputCosts:
    """Terms of the input pipeline, by shorter side or by pipeline.

    Attributes:
        device_decode: Decoding on the device, by shorter side in pixels.
        device_resize: Resizing on the device, by pipeline.
        server: Both on the server, by pipeline.
        header_s: Reading a photograph's header on the device, seconds.
        runs: How many photographs were sent to find out.
        errors: How far the lines are from what they were fitted to, by site, then by format.
    """

    device_decode: Mapping[int, Terms]
    device_resize: Mapping[InputPipeline, Terms]
    server: Mapping[InputPipeline, Terms]
    header_s: float
    runs: int
    errors: Mapping[str, Mapping[str, FitError]]


def photographs_digest(photographs: Sequence[bytes]) -> str:
    """Return 12 hex digits that tell some photographs from others."""
    digests = [hashlib.sha256(data).hexdigest() for data in photographs]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:12]


def measure_inputs(
    runner: PlanRunner,
    rows: Mapping[InputPipeline, PlanRow],
    photographs: Sequence[bytes],
    pace: Pace,
    shelf: Shelf,
    progress: Progress,
) -> InputCosts:
    """Measure decoding and resizing on both sides, over a ladder of images.

    The ladder is climbed in turns, so that a machine that is slower for a while does not make a
    few images dear. Large ones take long to send: they are looked at once, with the first pipeline.

    Args:
        runner: Carries out the rows.
        rows: By pipeline, a row of the family ``file`` of a network that has it.
        photographs: What the ladder is made of.
        pace: How fast this device works.
        shelf: What is known already.
        progress: Told about each image.

    Raises:
        RemoteError: If the server fails.
        ImageError: If a photograph cannot be used.
    """
    digest = photographs_digest(photographs)
    ladder: Sequence[Rung] = ()
    decode: dict[int, list[Sample]] = {}
    resize: dict[InputPipeline, list[Sample]] = {}
    server: dict[InputPipeline, list[Sample]] = {}
    header_s: list[float] = []
    runs = 0
    for pipeline, row in rows.items():
        graph_sha256 = runner.variants[row.variant].graph_sha256
        part = f"input {_pipeline_digest(pipeline)} {RUNGS_DIGEST} photographs:{digest}"
        found = _known(shelf.get(graph_sha256, part, sites="both"))
        if not found:
            ladder = ladder or image_ladder(photographs, progress)
            climbed = [rung for rung in ladder if not (rung.is_large and decode)]
            climbed += [rung for rung in ladder if not rung.is_large] * (_LADDER_ROUNDS - 1)
            progress.begin("input pipeline", len(climbed))
            for rung in climbed:
                found.append(_run(runner, row, pipeline, rung, pace))
                progress.advance(f"{row.variant}: {rung.facts.width}x{rung.facts.height}")
            runs += len(found)
            kept = [{"facts": asdict(facts), **times} for facts, times in found]
            shelf.put(graph_sha256, part, {"runs": kept}, sites="both")
        header_s += [times["header"] for _, times in found]
        decode.setdefault(pipeline.resize_shorter_side_px, []).extend(_samples(found, "decode"))
        resize[pipeline] = _samples(found, "preprocess")
        server[pipeline] = _samples(found, "server_decode")
    device_decode = decode_terms("device", decode)
    server_decode = {
        p: decode_terms("server", {p.resize_shorter_side_px: s})[p.resize_shorter_side_px]
        for p, s in server.items()
    }
    return InputCosts(
        device_decode=device_decode,
        device_resize={
            p: resize_terms("device", p.resize_shorter_side_px, s) for p, s in resize.items()
        },
        server=server_decode,
        header_s=float(np.median(header_s)),
        runs=runs,
        errors={
            "device": fit_errors([(device_decode[px], s) for px, s in decode.items()]),
            "server": fit_errors([(server_decode[p], s) for p, s in server.items()]),
        },
    )


_Run = tuple[ImageFacts, dict[str, float]]


def _run(runner: PlanRunner, row: PlanRow, pipeline: InputPipeline, rung: Rung, pace: Pace) -> _Run:
    """Return the times of one image of the ladder, on both sides."""
    times = StageTimes(pace)
    job = Job(rung.data, times)
    facts = job.facts
    header_s = times.seconds["decode"]
    job.pixels(pipeline)
    runner.run(row, job.again(times), timeout_s=_TIMEOUT_S)
    seconds = {stage: times.seconds.get(stage, 0.0) for stage in _STAGES}
    return facts, {**seconds, "header": header_s}


def _samples(found: Sequence[_Run], stage: str) -> list[Sample]:
    # A server that reports no times counts as link: what it does is then free.
    return [Sample(facts, max(times[stage], 1e-9)) for facts, times in found]


def _known(content: Mapping[str, Any] | None) -> list[_Run]:
    try:
        return [
            (ImageFacts(**run["facts"]), {stage: float(run[stage]) for stage in _STAGES})
            for run in (content or {"runs": ()})["runs"]
        ]
    except (KeyError, TypeError, ValueError):
        return []


def _pipeline_digest(pipeline: InputPipeline) -> str:
    text = json.dumps(asdict(pipeline), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

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

from isthmus.profiling.input_costs import Sample, Terms, decode_terms, resize_terms
from isthmus.profiling.ladder import image_ladder
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
    """

    device_decode: Mapping[int, Terms]
    device_resize: Mapping[InputPipeline, Terms]
    server: Mapping[InputPipeline, Terms]
    header_s: float
    runs: int


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
    ladder: Sequence[bytes] = ()
    decode: dict[int, list[Sample]] = {}
    resize: dict[InputPipeline, list[Sample]] = {}
    server: dict[InputPipeline, list[Sample]] = {}
    header_s: list[float] = []
    runs = 0
    for pipeline, row in rows.items():
        graph_sha256 = runner.variants[row.variant].graph_sha256
        part = f"input {_pipeline_digest(pipeline)} photographs:{digest}"
        found = _known(shelf.get(graph_sha256, part, sites="both"))
        if not found:
            ladder = ladder or [rung.data for rung in image_ladder(photographs)]
            progress.begin("input pipeline", len(ladder))
            for data in ladder:
                found += _climb(runner, row, pipeline, data, pace)
                width, height = found[-1][0].width, found[-1][0].height
                progress.advance(f"{row.variant}: {width}x{height}")
            runs += len(found)
            kept = [{"facts": asdict(facts), **times} for facts, times in found]
            shelf.put(graph_sha256, part, {"runs": kept}, sites="both")
        header_s += [times["header"] for _, times in found]
        decode.setdefault(pipeline.resize_shorter_side_px, []).extend(_samples(found, "decode"))
        resize[pipeline] = _samples(found, "preprocess")
        server[pipeline] = _samples(found, "server_decode")
    return InputCosts(
        device_decode=decode_terms("device", decode),
        device_resize={
            p: resize_terms("device", p.resize_shorter_side_px, s) for p, s in resize.items()
        },
        server={
            p: decode_terms("server", {p.resize_shorter_side_px: s})[p.resize_shorter_side_px]
            for p, s in server.items()
        },
        header_s=float(np.median(header_s)),
        runs=runs,
    )


_Run = tuple[ImageFacts, dict[str, float]]


def _climb(
    runner: PlanRunner, row: PlanRow, pipeline: InputPipeline, data: bytes, pace: Pace
) -> list[_Run]:
    """Return the times of one image of the ladder, on both sides."""
    found = []
    for _ in range(_LADDER_ROUNDS):
        times = StageTimes(pace)
        job = Job(data, times)
        facts = job.facts
        header_s = times.seconds["decode"]
        job.pixels(pipeline)
        runner.run(row, job.again(times), timeout_s=_TIMEOUT_S)
        seconds = {stage: times.seconds.get(stage, 0.0) for stage in _STAGES}
        found.append((facts, {**seconds, "header": header_s}))
    return found


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

"""Profile a bundle on this device, with one server: every plan is run for real and timed.

It knows no emulation but the ``Pace`` that it is given, and decides nothing.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isthmus.errors import BundleError
from isthmus.estimation.fit import spread
from isthmus.estimation.link import LinkEstimate
from isthmus.loading.bundle import Bundle, Candidate, save_profile
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.profiling.input_costs import Sample, decode_terms, resize_terms
from isthmus.profiling.ladder import Rung, image_ladder
from isthmus.profiling.probe import probe_link
from isthmus.runtime.clock import FULL_PACE, Pace
from isthmus.runtime.heads import Heads
from isthmus.runtime.plan_runner import Job, PlanRunner, Run, StageTimes
from isthmus.runtime.remote import RemoteServer
from isthmus.runtime.session import ONNXRUNTIME_VERSION
from isthmus.runtime.transport import HttpTransport
from isthmus.types.plan import Family, PlanRow, PlanTable
from isthmus.types.progress import SILENT, Progress
from isthmus.types.variant import InputPipeline

__all__ = ["ROUNDS", "ProfileReport", "profile_bundle"]

ROUNDS = 8
"""How often each plan is run and timed; the medians count."""

_LADDER_ROUNDS = 3
_TIMEOUT_S = 60.0
_REPLY_HEADER_BYTES = 250
_MEASURED = ("preprocess", "head", "encode", "server_decode", "server")
"""Stages whose time is a constant of the row; the others follow from the image and the link."""


@dataclass(frozen=True)
class ProfileReport:
    """What a profile found.

    Attributes:
        table: The compiled table, already saved in the bundle.
        link: The link while profiling.
        runs: How many plans were run.
        elapsed_s: How long it took.
    """

    table: PlanTable
    link: LinkEstimate
    runs: int
    elapsed_s: float


@dataclass(frozen=True)
class _Observed:
    """One run of one row."""

    seconds: Mapping[str, float]
    run: Run
    file_bytes: int


def profile_bundle(
    bundle: Bundle,
    server: str,
    *,
    rounds: int = ROUNDS,
    threads: int = 1,
    pace: Pace = FULL_PACE,
    notes: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> ProfileReport:
    """Measure every candidate of a bundle here and on the server, and give the bundle its table.

    Heads run here and tails there as they will be run: one request after the other, through the
    same code. The old table stays in force until the new one is complete.

    Args:
        bundle: What to measure.
        server: Address of the server, e.g. ``http://edge:8000``.
        rounds: How often each plan is run and timed.
        threads: Threads of one inference here.
        pace: How fast this device works; for the lab's emulated devices.
        notes: JSON values to keep with the profile.
        progress: Told about each step.

    Raises:
        RemoteError: If the server fails, or has other networks than the bundle.
        BundleError: If the bundle has no photographs to measure with.
        ValueError: If ``rounds`` is not positive, or the server's address is malformed.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    begun_at_s = time.perf_counter()
    if not bundle.calibration:
        raise BundleError(f"{bundle.path} has no calibration photographs: build it again")
    transport = HttpTransport(server)
    heads = Heads(bundle.head_path, threads=threads)
    runner = PlanRunner(bundle.variants, heads, transport)
    try:
        remote = RemoteServer(transport)
        metadata = remote.metadata()
        _register(bundle, remote, progress)
        photographs = bundle.photographs()
        probe = next(c.row for c in bundle.candidates if c.row.family == "file")
        link = probe_link(runner, probe, photographs)
        measuring = _Measuring(runner, pace, photographs, rounds, progress)
        inputs = measuring.input_costs(bundle)
        entries: list[PlanEntry] = []
        for name in bundle.variants:
            candidates = [c for c in bundle.candidates if c.row.variant == name]
            entries += measuring.entries(candidates, inputs)
            heads.close()
    finally:
        heads.close()
        transport.close()
    table = compile_table(entries, columns_for(inputs.device_decode))
    elapsed_s = time.perf_counter() - begun_at_s
    record = _record(server, metadata, threads, rounds, link, elapsed_s)
    save_profile(bundle.path, table, {**record, **(notes or {})})
    return ProfileReport(table, link, measuring.runs, elapsed_s)


@dataclass(frozen=True)
class _InputCosts:
    """Terms of the input pipeline, by shorter side or by pipeline."""

    device_decode: Mapping[int, Mapping[str, float]]
    device_resize: Mapping[InputPipeline, Mapping[str, float]]
    server: Mapping[InputPipeline, Mapping[str, float]]
    header_s: float


class _Measuring:
    """Runs plans and keeps what they cost."""

    def __init__(
        self,
        runner: PlanRunner,
        pace: Pace,
        photographs: Sequence[bytes],
        rounds: int,
        progress: Progress,
    ) -> None:
        self._runner = runner
        self._pace = pace
        self._photographs = photographs
        self._rounds = rounds
        self._progress = progress
        self.runs = 0

    def input_costs(self, bundle: Bundle) -> _InputCosts:
        """Measure decoding and resizing on both sides, over a ladder of images."""
        ladder = image_ladder(self._photographs)
        users = {v.pipeline: name for name, v in bundle.variants.items() if v.pipeline}
        self._progress.begin("input pipeline", len(users) * len(ladder))
        decode: dict[int, list[Sample]] = {}
        resize: dict[InputPipeline, list[Sample]] = {}
        server: dict[InputPipeline, list[Sample]] = {}
        header_s: list[float] = []
        for pipeline, variant in users.items():
            row = next(
                c.row
                for c in bundle.candidates
                if (c.row.variant, c.row.family) == (variant, "file")
            )
            for rung in ladder:
                for _ in range(_LADDER_ROUNDS):
                    times = StageTimes(self._pace)
                    job = Job(rung.data, times)
                    _ = job.facts
                    header_s.append(times.seconds["decode"])
                    job.pixels(pipeline)
                    side_px = pipeline.resize_shorter_side_px
                    decode.setdefault(side_px, []).append(_sample(rung, times, "decode"))
                    resize.setdefault(pipeline, []).append(_sample(rung, times, "preprocess"))
                    self._run(row, job.again(times))
                    server.setdefault(pipeline, []).append(_sample(rung, times, "server_decode"))
                self._progress.advance(f"{variant}: {rung.facts.width}x{rung.facts.height}")
        return _InputCosts(
            device_decode=decode_terms("device", decode),
            device_resize={
                p: resize_terms("device", p.resize_shorter_side_px, s) for p, s in resize.items()
            },
            server={
                p: decode_terms("server", {p.resize_shorter_side_px: s})[p.resize_shorter_side_px]
                for p, s in server.items()
            },
            header_s=float(np.median(header_s)),
        )

    def entries(self, candidates: Sequence[Candidate], inputs: _InputCosts) -> list[PlanEntry]:
        """Run the candidates of one network, and compile what each costs.

        A few runs of one plan follow one another, as they do in use, and the first does not count:
        plans taking turns throw each other's weights out of the processor's caches, which made
        heads look up to twice as slow. Two passes, so that one slow moment spoils no plan.
        """
        self._runner.heads.load(c.row for c in candidates)
        observed: list[list[_Observed]] = [[] for _ in candidates]
        jobs = [Job(data, StageTimes()) for data in self._photographs]
        passes = [count for count in (-(-self._rounds // 2), self._rounds // 2) if count]
        self._progress.begin(candidates[0].row.variant, len(passes) * len(candidates))
        for count in passes:
            for candidate, found in zip(candidates, observed, strict=True):
                for turn in range(-1, count):
                    job = jobs[turn % len(jobs)]
                    times = StageTimes(self._pace)
                    run = self._run(candidate.row, self._prepared(job, candidate, times))
                    if turn >= 0:
                        found.append(_Observed(times.seconds, run, job.facts.file_bytes))
                self._progress.advance(candidate.row.label)
        constants = _constants(candidates, observed)
        return [
            self._entry(candidate, found, constant, inputs)
            for candidate, found, constant in zip(candidates, observed, constants, strict=True)
        ]

    def _prepared(self, job: Job, candidate: Candidate, times: StageTimes) -> Job:
        """Return the job with its pixels made, so that a run costs only what is its own."""
        pipeline = self._runner.variants[candidate.row.variant].pipeline
        if pipeline is not None:
            job.pixels(pipeline)
        return job.again(times)

    def _run(self, row: PlanRow, job: Job) -> Run:
        self.runs += 1
        return self._runner.run(row, job, timeout_s=_TIMEOUT_S)

    def _entry(
        self,
        candidate: Candidate,
        observed: Sequence[_Observed],
        constant: Mapping[str, float],
        inputs: _InputCosts,
    ) -> PlanEntry:
        row = candidate.row
        variant = self._runner.variants[row.variant]
        pipeline = variant.pipeline
        assert pipeline is not None  # a bundle's networks take photographs
        terms = {
            **_device_terms(row.family, constant, pipeline, inputs),
            **_server_terms(row.family, constant, pipeline, inputs),
        }
        own_bytes = [
            o.run.sent_bytes - (o.file_bytes if row.family == "file" else 0) for o in observed
        ]
        received = [o.run.received_bytes + _REPLY_HEADER_BYTES for o in observed]
        terms |= link_terms(
            row.family,
            sent_bytes=float(np.mean(own_bytes)),
            received_bytes=float(np.mean(received)),
        )
        published = variant.accuracy.ratio if variant.accuracy else 0.0
        steady = [
            stage for stage in _MEASURED if not (row.family == "file" and stage == "server_decode")
        ]
        return PlanEntry(
            row=row,
            terms=terms,
            residual_s=spread([sum(o.seconds.get(s, 0.0) for s in steady) for o in observed]),
            sent_bytes=float(np.mean(own_bytes)),
            sent_bytes_sd=float(np.std(own_bytes)),
            accuracy=published * candidate.agreement,
            agreement=candidate.agreement,
        )


def _constants(
    candidates: Sequence[Candidate], observed: Sequence[Sequence[_Observed]]
) -> list[dict[str, float]]:
    """Return the median of every measured stage, by candidate.

    Rows that do the same in a stage share their measurements of it: a head and a tail do not
    depend on the codec between them, nor normalising on the cut behind it.
    """
    shared: dict[tuple[str, ...], list[float]] = {}
    for candidate, found in zip(candidates, observed, strict=True):
        for stage in _MEASURED:
            values = [o.seconds.get(stage, 0.0) for o in found]
            shared.setdefault(_sharing(candidate.row, stage), []).extend(values)
    return [
        {stage: float(np.median(shared[_sharing(candidate.row, stage)])) for stage in _MEASURED}
        for candidate in candidates
    ]


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
    inputs: _InputCosts,
) -> dict[str, Mapping[str, float]]:
    if family == "file":
        return {"decode": {"device": inputs.header_s}, "encode": {"device": constant["encode"]}}
    resize = dict(inputs.device_resize[pipeline])
    resize["device"] += constant["preprocess"]
    terms: dict[str, Mapping[str, float]] = {
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
    inputs: _InputCosts,
) -> dict[str, Mapping[str, float]]:
    if family == "local":
        return {}
    decode = inputs.server[pipeline] if family == "file" else {"server": constant["server_decode"]}
    return {"server_decode": decode, "server": {"server": constant["server"]}}


def _sample(rung: Rung, times: StageTimes, stage: str) -> Sample:
    # A server that reports no times counts as link: what it does is then free.
    return Sample(rung.facts, max(times.seconds.get(stage, 0.0), 1e-9))


def _register(bundle: Bundle, remote: RemoteServer, progress: Progress) -> None:
    """Have the server make every tail that a candidate needs."""
    rows = {c.row.unit: c.row for c in bundle.candidates if c.row.family == "split"}
    progress.begin("tails on the server", len(rows))
    for row in rows.values():
        remote.register_tail(row, bundle.variants[row.variant].graph_sha256)
        progress.advance(row.unit)


def _record(
    server: str,
    metadata: Mapping[str, Any],
    threads: int,
    rounds: int,
    link: LinkEstimate,
    elapsed_s: float,
) -> dict[str, Any]:
    """Say how the table was measured."""
    return {
        "server": server,
        "server_name": metadata.get("name", ""),
        "server_version": metadata.get("version", ""),
        "device": platform.node(),
        "device_threads": threads,
        "onnxruntime": ONNXRUNTIME_VERSION,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "rounds": rounds,
        "elapsed_s": round(elapsed_s, 3),
        "link": asdict(link.link),
    }

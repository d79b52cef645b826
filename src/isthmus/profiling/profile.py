"""Profile a bundle on this device, with one server: every plan is run for real and timed.

It knows no emulation but the ``Pace`` that it is given, and decides nothing. What was measured
before, for whichever bundle, is taken from a store; what is missing or too old is measured.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from isthmus.errors import BundleError
from isthmus.estimation.link import LinkEstimate
from isthmus.loading.bundle import Bundle, save_profile
from isthmus.loading.claims import claimed
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table
from isthmus.profiling.entries import entries_of, stage_medians
from isthmus.profiling.input_runs import InputCosts, measure_inputs, photographs_digest
from isthmus.profiling.measure import QUANTILES
from isthmus.profiling.observed import RowRuns
from isthmus.profiling.parts import PartCost, head_costs, unit_costs
from isthmus.profiling.plans import Effort, kept_runs, run_plans
from isthmus.profiling.probe import probe_link
from isthmus.profiling.shelf import RUNTIME, Shelf, server_runtime
from isthmus.profiling.store import ProfileStore
from isthmus.runtime.clock import FULL_PACE, Pace
from isthmus.runtime.fingerprint import decodes_alike, disagreements, fingerprint
from isthmus.runtime.heads import Heads
from isthmus.runtime.plan_runner import PlanRunner
from isthmus.runtime.remote import RemoteServer
from isthmus.runtime.session import ONNXRUNTIME_VERSION
from isthmus.runtime.transport import HttpTransport
from isthmus.types.plan import PlanRow, PlanTable
from isthmus.types.progress import SILENT, Progress
from isthmus.types.variant import InputPipeline

__all__ = ["Kept", "ProfileReport", "profile_bundle"]

_DEFAULT_EFFORT = Effort()


@dataclass(frozen=True)
class Kept:
    """What a profile may take from earlier ones.

    Attributes:
        store: Where it is kept; ``None`` for nowhere.
        since_s: What is older is measured again, seconds since 1970.
    """

    store: ProfileStore | None = None
    since_s: float = -math.inf


@dataclass(frozen=True)
class ProfileReport:
    """What a profile found.

    Attributes:
        table: The compiled table, already saved in the bundle.
        link: The link while profiling.
        runs: How many plans were run, the input pipeline's included.
        plans: What was seen of each candidate, new or kept.
        kept: How many of them were kept from earlier profiles.
        heads: What loading the device's parts takes, by variant and cut id.
        units: What loading the server's parts took there, by name; those that it tells.
        store_failure: Why nothing could be kept or found; empty if all went well.
        disagreements: Where this device and the server would not answer alike, since their
            libraries decode differently; in words, empty if nowhere.
        elapsed_s: How long it took.
    """

    table: PlanTable
    link: LinkEstimate
    runs: int
    plans: tuple[RowRuns, ...]
    kept: int
    heads: Mapping[tuple[str, str], PartCost]
    units: Mapping[str, PartCost]
    store_failure: str
    disagreements: tuple[str, ...]
    elapsed_s: float

    @property
    def unknown(self) -> tuple[RowRuns, ...]:
        """The plans whose medians are not known as well as they were to be."""
        return tuple(runs for runs in self.plans if not runs.is_known)


def profile_bundle(
    bundle: Bundle,
    server: str,
    *,
    effort: Effort = _DEFAULT_EFFORT,
    kept: Kept = Kept(),
    threads: int = 1,
    pace: Pace = FULL_PACE,
    notes: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> ProfileReport:
    """Measure every candidate of a bundle here and on the server, and give the bundle its table.

    Heads run here and tails there as they will be run: one request after the other, through the
    same code. The old table stays in force until the new one is complete. Every block of runs
    is kept as soon as it is there, so an interrupted profile is gone on with by the next one.

    Args:
        bundle: What to measure.
        server: Address of the server, e.g. ``http://edge:8000``.
        effort: How well plans are measured, and for how long.
        kept: What may be taken from earlier profiles.
        threads: Threads of one inference here.
        pace: How fast this device works; for the lab's emulated devices.
        notes: JSON values to keep with the profile.
        progress: Told about each step.

    Raises:
        RemoteError: If the server fails, or has other networks than the bundle.
        BundleError: If the bundle has no photographs to measure with, cannot be written, or is
            being changed by another process.
        OSError: If it cannot be written when all is measured; it is then as it was.
        ValueError: If the server's address is malformed.
    """
    begun_at_s = time.perf_counter()
    if not bundle.calibration:
        raise BundleError(f"{bundle.path} has no calibration photographs: build it again")
    if not os.access(bundle.path, os.W_OK):  # said now, not when all was measured
        raise BundleError(f"{bundle.path} cannot be written: copy it to where it can be")
    with (
        claimed(bundle.path),
        closing(HttpTransport(server)) as transport,
        closing(Heads(bundle.head_path, threads=threads)) as heads,
    ):
        remote = RemoteServer(transport)
        metadata = remote.metadata()
        _register(bundle, remote, progress)
        shelf = Shelf(
            kept.store,
            device=platform.node(),
            server=f"{metadata.get('name', '')} {metadata.get('version', '')} at {server}",
            server_runtime=server_runtime(metadata),
            threads=threads,
            pace=pace.factor,
            since_s=kept.since_s,
        )
        runner = PlanRunner(bundle.variants, heads, transport)
        profiling = _Profiling(bundle, runner, remote, shelf, effort, pace, progress)
        link = probe_link(runner, next(iter(profiling.doors.values())), profiling.photographs)
        inputs = profiling.inputs()
        for name in bundle.variants:
            profiling.network(name, inputs)
            heads.close()
        table = compile_table(profiling.entries, columns_for(inputs.device_decode))
        report = ProfileReport(
            table=table,
            link=link,
            runs=profiling.runs,
            plans=tuple(profiling.plans),
            kept=profiling.kept,
            heads=profiling.heads,
            units=profiling.units,
            store_failure=shelf.failure,
            disagreements=disagreements(fingerprint(), metadata),
            elapsed_s=time.perf_counter() - begun_at_s,
        )
        record = {
            "server": server,
            "server_name": metadata.get("name", ""),
            "server_version": metadata.get("version", ""),
            "device": platform.node(),
            "device_threads": threads,
            "server_threads": metadata.get("threads"),
            "server_runtime": server_runtime(metadata),
            "onnxruntime": ONNXRUNTIME_VERSION,
            "libraries": {
                "device": fingerprint()["libraries"],
                "server": metadata.get("libraries", {}),
            },
            "disagreements": list(report.disagreements),
            "decodes_alike": decodes_alike(fingerprint(), metadata),
            "runtime": RUNTIME,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "effort": asdict(effort),
            **_record(report),
            "input_fit": {
                site: {kind: asdict(error) for kind, error in errors.items()}
                for site, errors in inputs.errors.items()
            },
            **(notes or {}),
        }
        save_profile(bundle.path, table, record)
        return report


class _Profiling:
    """One profile while it is made."""

    def __init__(
        self,
        bundle: Bundle,
        runner: PlanRunner,
        remote: RemoteServer,
        shelf: Shelf,
        effort: Effort,
        pace: Pace,
        progress: Progress,
    ) -> None:
        self.photographs = bundle.photographs()
        self.doors: dict[InputPipeline, PlanRow] = {}
        for candidate in bundle.candidates:
            pipeline = bundle.variants[candidate.row.variant].pipeline
            if candidate.row.family == "file" and pipeline is not None:
                self.doors.setdefault(pipeline, candidate.row)
        self.entries: list[PlanEntry] = []
        self.plans: list[RowRuns] = []
        self.heads: dict[tuple[str, str], PartCost] = {}
        self.units: dict[str, PartCost] = {}
        self.runs = 0
        self.kept = 0
        self._bundle = bundle
        self._runner = runner
        self._remote = remote
        self._shelf = shelf
        self._effort = effort
        self._left_s = effort.budget_s
        self._left = len(bundle.variants)
        self._pace = pace
        self._progress = progress
        self._digest = photographs_digest(self.photographs)

    def inputs(self) -> InputCosts:
        """Measure the input pipelines."""
        found = measure_inputs(
            self._runner, self.doors, self.photographs, self._pace, self._shelf, self._progress
        )
        self.runs += found.runs
        return found

    def network(self, name: str, inputs: InputCosts) -> None:
        """Measure the candidates of one network."""
        variant = self._bundle.variants[name]
        candidates = [c for c in self._bundle.candidates if c.row.variant == name]
        rows = [candidate.row for candidate in candidates]
        found = kept_runs(variant, rows, self._digest, self._shelf)
        precision = self._effort.precision_ratio
        due = [row for row in rows if row not in found or not found[row].satisfies(precision)]
        loaded = head_costs(
            variant,
            [row.cut_id for row in rows if row.family in ("local", "split")],
            [row.cut_id for row in due if row.family in ("local", "split")],
            self._runner.heads,
            self._pace,
            self._shelf,
            self._progress,
        )
        self.heads |= {(name, cut_id): cost for cut_id, cost in loaded.items()}
        begun = {row: runs for row, runs in found.items() if row in due}
        found |= self._run(due, begun)
        self.kept += len(rows) - len(due)
        units = [row.unit for row in rows if row.unit]
        self.units |= unit_costs(variant, units, self._remote, self._shelf)
        runs = [found[row] for row in rows]
        self.plans += runs
        self.entries += entries_of(variant, candidates, runs, inputs)

    def _run(
        self, rows: Sequence[PlanRow], begun: Mapping[PlanRow, RowRuns]
    ) -> dict[PlanRow, RowRuns]:
        """Run rows within this network's share of what is left of the budget."""
        begun_at_s = time.perf_counter()
        found = run_plans(
            self._runner,
            rows,
            self.photographs,
            digest=self._digest,
            begun=begun,
            effort=replace(self._effort, budget_s=max(0.0, self._left_s) / self._left),
            pace=self._pace,
            shelf=self._shelf,
            progress=self._progress,
        )
        self.runs += sum(sum(map(len, runs.blocks)) for runs in found.values())
        self.runs -= sum(sum(map(len, runs.blocks)) for runs in begun.values())
        self._left_s -= time.perf_counter() - begun_at_s
        self._left -= 1
        return found


def _register(bundle: Bundle, remote: RemoteServer, progress: Progress) -> None:
    """Have the server make every tail that a candidate needs."""
    rows = {c.row.unit: c.row for c in bundle.candidates if c.row.family == "split"}
    progress.begin("tails on the server", len(rows))
    for row in rows.values():
        remote.register_tail(row, bundle.variants[row.variant].graph_sha256)
        progress.advance(row.unit)


def _record(report: ProfileReport) -> dict[str, Any]:
    """Say what was seen, for people and for completing the candidates."""
    medians: dict[PlanRow, dict[str, float]] = {}
    for variant in {runs.row.variant for runs in report.plans}:
        plans = [runs for runs in report.plans if runs.row.variant == variant]
        medians |= dict(zip((p.row for p in plans), stage_medians(plans), strict=True))
    return {
        "runs": report.runs,
        "kept": report.kept,
        "elapsed_s": round(report.elapsed_s, 3),
        "link": asdict(report.link.link),
        "plans": [
            {
                "variant": runs.row.variant,
                "family": runs.row.family,
                "cut_id": runs.row.cut_id,
                "codec": runs.row.codec,
                "stages_s": medians[runs.row],
                **_statistics(runs),
            }
            for runs in report.plans
        ],
        "heads": [
            {"variant": variant, "cut_id": cut_id, **asdict(cost)}
            for (variant, cut_id), cost in report.heads.items()
        ],
        "units": {unit: asdict(cost) for unit, cost in report.units.items()},
    }


def _statistics(runs: RowRuns) -> dict[str, Any]:
    m = runs.measurement
    return {
        "count": m.count,
        "warm_ups": m.warm_ups,
        "median_s": m.median_s,
        "mean_s": m.mean_s,
        "sd_s": m.sd_s,
        "quantiles_s": {str(q): x for q, x in zip(QUANTILES, m.quantiles_s, strict=True)},
        "half_width_ratio": m.half_width_ratio if math.isfinite(m.half_width_ratio) else None,
        "is_known": runs.is_known,
    }

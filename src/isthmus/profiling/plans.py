"""Run the plans of one network for real, in turn, until each is known; keep every run.

Rows are carried out as they will be in use: head, then upload, then tail, in sequence, through
``PlanRunner``. What is kept already is not run again, and what was begun is gone on with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isthmus.profiling.measure import Measurement, measure_in_turn
from isthmus.profiling.observed import MEASURED, Observed, RowRuns
from isthmus.profiling.shelf import Shelf
from isthmus.runtime.clock import Pace
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.types.plan import PlanRow
from isthmus.types.progress import Progress
from isthmus.types.variant import Variant

__all__ = ["Effort", "kept_runs", "run_plans"]

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Effort:
    """How well plans are measured.

    Attributes:
        precision_ratio: Half the width of the 95 % confidence interval of each median that is
            aimed at, as a share of the median.
        budget_s: Seconds after which no plan of the bundle is run again that was run at all.
        pause_s: Seconds of idleness before each run: the cadence that is measured.
    """

    precision_ratio: float = 0.05
    budget_s: float = 60.0
    pause_s: float = 0.0


def kept_runs(
    variant: Variant, rows: Sequence[PlanRow], photographs: str, shelf: Shelf
) -> dict[PlanRow, RowRuns]:
    """Return what is known of rows, whole or begun.

    Args:
        variant: Their network.
        rows: The rows.
        photographs: Digest of the photographs that they were run with.
        shelf: Where to look.
    """
    found = {}
    for row in rows:
        content = shelf.get(variant.graph_sha256, _part(row, photographs), sites=_sites(row))
        if content is not None and (runs := RowRuns.from_json(row, content)) is not None:
            found[row] = runs
    return found


def run_plans(
    runner: PlanRunner,
    rows: Sequence[PlanRow],
    photographs: Sequence[bytes],
    *,
    digest: str,
    begun: Mapping[PlanRow, RowRuns],
    effort: Effort,
    pace: Pace,
    shelf: Shelf,
    progress: Progress,
) -> dict[PlanRow, RowRuns]:
    """Run rows of one network until each median is known, and put every block on the shelf.

    Args:
        runner: Carries them out; what they need on the device is loaded.
        rows: The rows.
        photographs: What they are run with, one after the other.
        digest: Of the photographs.
        begun: Runs to go on from.
        effort: How well each is to be known, and how long all may take.
        pace: How fast this device works.
        shelf: Where runs are kept.
        progress: Told about each row, first when it has been run and then when it is known.

    Raises:
        RemoteError: If the server fails.
    """
    if not rows:
        return {}
    variant = runner.variants[rows[0].variant]
    series = {row: _Series(runner, row, photographs, pace, begun.get(row)) for row in rows}
    steps = _Steps(progress, variant.name, rows)

    def keep(row: PlanRow, runs: RowRuns) -> None:
        shelf.put(variant.graph_sha256, _part(row, digest), runs.to_json(), sites=_sites(row))

    def on_block(row: PlanRow, measurement: Measurement) -> None:
        series[row].close_block()
        runs = RowRuns(row, tuple(series[row].blocks), effort.precision_ratio, False)
        keep(row, runs)
        steps.ran(row, is_known=measurement.half_width_ratio <= effort.precision_ratio)

    measure_in_turn(
        {row: one.run for row, one in series.items()},
        precision_ratio=effort.precision_ratio,
        budget_s=effort.budget_s,
        pause_s=effort.pause_s,
        earlier={row: runs.measurement.blocks_s for row, runs in begun.items() if row in series},
        on_block=on_block,
    )
    steps.end()
    found = {
        row: RowRuns(row, tuple(one.blocks), effort.precision_ratio, True)
        for row, one in series.items()
    }
    for row, runs in found.items():
        keep(row, runs)
    return found


def _part(row: PlanRow, photographs: str) -> str:
    """Return the name of a row of one network in the store."""
    does = (row.family, row.cut_id, row.codec, row.exit, *row.cloud_tensors)
    return " ".join(("run", *filter(None, does), f"photographs:{photographs}"))


def _sites(row: PlanRow) -> str:
    return "device" if row.is_local else "both"


class _Series:
    """The runs of one row, and the next one."""

    def __init__(
        self,
        runner: PlanRunner,
        row: PlanRow,
        photographs: Sequence[bytes],
        pace: Pace,
        begun: RowRuns | None,
    ) -> None:
        self.blocks: list[tuple[Observed, ...]] = list(begun.blocks) if begun else []
        self._open: list[Observed] = []
        self._count = sum(map(len, self.blocks))
        self._runner = runner
        self._row = row
        self._jobs = [Job(data, StageTimes()) for data in photographs]
        self._pace = pace
        self._pipeline = runner.variants[row.variant].pipeline

    def run(self) -> float:
        """Run the row once; return the seconds of its steady stages."""
        job = self._jobs[self._count % len(self._jobs)]
        self._count += 1
        if self._pipeline is not None:
            job.pixels(self._pipeline)  # made once, so that a run costs only what is its own
        times = StageTimes(self._pace)
        run = self._runner.run(self._row, job.again(times), timeout_s=_TIMEOUT_S)
        seen = Observed(
            {stage: times.seconds[stage] for stage in MEASURED if stage in times.seconds},
            run.sent_bytes,
            run.received_bytes,
            job.facts.file_bytes,
            run.sent_as == "file",
        )
        self._open.append(seen)
        return seen.steady_s(self._row)

    def close_block(self) -> None:
        """The runs since the last call were one block."""
        self.blocks.append(tuple(self._open))
        self._open = []


class _Steps:
    """Progress in two steps a row: it was run, and no more runs of it are needed."""

    def __init__(self, progress: Progress, name: str, rows: Sequence[PlanRow]) -> None:
        self._progress = progress
        self._unseen = set(rows)
        self._unknown = set(rows)
        progress.begin(name, 2 * len(rows))

    def ran(self, row: PlanRow, *, is_known: bool) -> None:
        """A block of a row was run."""
        if row in self._unseen:
            self._unseen.remove(row)
            self._progress.advance(row.label)
        elif is_known and row in self._unknown:
            self._unknown.remove(row)
            self._progress.advance(f"{row.label} is known")

    def end(self) -> None:
        """No more blocks will be run."""
        for _ in (*self._unseen, *self._unknown):
            self._progress.advance()

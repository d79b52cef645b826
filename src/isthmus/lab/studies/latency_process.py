"""Run the parts of one network in a process of its own, as the latency study asks for it.

An order comes on standard input, medians go to standard output. Heads are run with their tails
right after them, as a request does. It cuts no network, and predicts nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from isthmus.errors import LabError
from isthmus.lab.studies.latency_times import PartTimes
from isthmus.profiling.measure import Measurement, measure_in_turn, measurement_of
from isthmus.runtime import clock
from isthmus.runtime.session import Session
from isthmus.types.graph import TensorSpec

__all__ = ["PAUSE_S", "Effort", "head_path", "measured_apart", "tail_path", "whole_path"]

PAUSE_S = 0.5
"""Idleness before each run, of the cadence with gaps."""

_PRECISION_RATIO = 0.01
_WARM_UPS = 2
_IDLE_BLOCK_RUNS = 3


@dataclass(frozen=True)
class Effort:
    """How long a process measures.

    Attributes:
        busy_s: Seconds for all cuts of a network one after the other; each is run four times
            at least.
        idle_s: Seconds for the scored ones with gaps; each is run three times at least.
    """

    busy_s: float = 8.0
    idle_s: float = 8.0


def whole_path(folder: Path) -> Path:
    """Return where the whole network is."""
    return folder / "whole.onnx"


def head_path(folder: Path, cut: int) -> Path:
    """Return where a cut's head is."""
    return folder / f"head-{cut}.onnx"


def tail_path(folder: Path, cut: int) -> Path:
    """Return where a cut's tail is."""
    return folder / f"tail-{cut}.onnx"


def measured_apart(
    folder: Path, *, cuts: int, idle: Sequence[int], effort: Effort, threads: int, seed: int
) -> tuple[PartTimes, PartTimes]:
    """Measure a network's parts in a new process.

    Args:
        folder: Where ``whole_path`` and so on have files.
        cuts: How many.
        idle: Those that are run with gaps, too.
        effort: How long.
        threads: Threads of one inference.
        seed: Of the order.

    Returns:
        Times without and with gaps.

    Raises:
        LabError: If the process fails; it says why.
    """
    order = {
        "folder": str(folder),
        "cuts": cuts,
        "idle": list(idle),
        "effort": asdict(effort),
        "threads": threads,
        "seed": seed,
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(order), capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LabError(f"the process that measures {folder.name} failed: {last}")
    busy, with_gaps = json.loads(done.stdout)
    return PartTimes.from_json(busy), PartTimes.from_json(with_gaps)


_WHOLE = -1
"""The task of the whole network, among cuts by number."""


class _Parts:
    """The sessions of one network, and what their runs took."""

    def __init__(self, folder: Path, cuts: int, threads: int, stack: ExitStack) -> None:
        def loaded(path: Path) -> Session:
            return stack.enter_context(Session(path, threads=threads))

        self.cuts = cuts
        self._whole = loaded(whole_path(folder))
        self._heads = [loaded(head_path(folder, cut)) for cut in range(cuts)]
        self._tails = [loaded(tail_path(folder, cut)) for cut in range(cuts)]
        generator = np.random.default_rng(0)
        self._feeds = {spec.name: _noise(spec, generator) for spec in self._whole.inputs}
        self._spent_s: dict[int, list[tuple[float, float]]] = {}
        self._blocks: dict[int, list[list[tuple[float, float]]]] = {}

    def run(self, task: int) -> float:
        """Run one cut's head and tail, or the whole network, once; return the seconds."""
        begun_at_s = clock.now_s()
        if task == _WHOLE:
            self._whole.run(self._feeds)
            middle_at_s = ended_at_s = clock.now_s()
        else:
            head, tail = self._heads[task], self._tails[task]
            sent = head.run({spec.name: self._feeds[spec.name] for spec in head.inputs})
            middle_at_s = clock.now_s()
            tail.run({spec.name: sent[spec.name] for spec in tail.inputs})
            ended_at_s = clock.now_s()
        self._spent_s.setdefault(task, []).append(
            (middle_at_s - begun_at_s, ended_at_s - middle_at_s)
        )
        return ended_at_s - begun_at_s

    def measure(
        self, tasks: Sequence[int], *, budget_s: float, block_runs: int, pause_s: float, seed: int
    ) -> PartTimes:
        """Run some cuts and the whole network in turn."""
        self._spent_s, self._blocks = {}, {}
        every = [*tasks, _WHOLE]
        calls: dict[int, Callable[[], float]] = {t: lambda t=t: self.run(t) for t in every}  # type: ignore[misc]
        measure_in_turn(
            calls,
            precision_ratio=_PRECISION_RATIO,
            budget_s=budget_s,
            block_runs=block_runs,
            pause_s=pause_s,
            seed=seed,
            on_block=self._close_block,
        )
        sides = [{task: self._measured(task, side) for task in every} for side in (0, 1)]
        heads, tails = ([m.get(c) for c in range(self.cuts)] for m in sides)
        return PartTimes(
            sides[0][_WHOLE].median_s,
            tuple(None if m is None else m.median_s for m in heads),
            tuple(None if m is None else m.median_s for m in tails),
            min(m.count for m in sides[0].values()),
        )

    def _close_block(self, task: int, _: Measurement) -> None:
        self._blocks.setdefault(task, []).append(self._spent_s.pop(task))

    def _measured(self, task: int, side: int) -> Measurement:
        return measurement_of([[run[side] for run in block] for block in self._blocks[task]])


def _noise(spec: TensorSpec, generator: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(spec.dtype)
    if dtype.kind in "fc":
        return generator.standard_normal(spec.shape).astype(dtype)
    return generator.integers(0, 2, spec.shape).astype(dtype)


def _main() -> None:
    order = json.loads(sys.stdin.read())
    effort = Effort(**order["effort"])
    with ExitStack() as stack:
        parts = _Parts(Path(order["folder"]), order["cuts"], order["threads"], stack)
        for task in (*range(parts.cuts), _WHOLE):
            for _ in range(_WARM_UPS):
                parts.run(task)
        busy = parts.measure(
            range(parts.cuts), budget_s=effort.busy_s, block_runs=4, pause_s=0.0, seed=order["seed"]
        )
        with_gaps = parts.measure(
            order["idle"],
            budget_s=effort.idle_s,
            block_runs=_IDLE_BLOCK_RUNS,
            pause_s=PAUSE_S,
            seed=order["seed"],
        )
    json.dump([asdict(busy), asdict(with_gaps)], sys.stdout)


if __name__ == "__main__":
    _main()

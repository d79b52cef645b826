"""Probes: ways to look at what no request has used for a while. When to look is ``prober``'s.

What they send are the bundle's own photographs, or nothing. They learn under the device's lock.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace

from isthmus.device.beliefs import Beliefs
from isthmus.device.prober import Probe
from isthmus.profiling.probe import probe_again
from isthmus.runtime.clock import Pace, now_s
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.runtime.remote import RemoteServer
from isthmus.runtime.transport import HttpTransport
from isthmus.types.plan import STAGES, PlanRow, PlanTable

__all__ = ["Probes"]

_QUIET_S = 2.0
"""What was seen more recently needs no look."""

_SUSPECT_RATIO = 1.1
"""A site that is believed to be slower than profiled by more than this is looked at."""

_CHANGE = math.log(1.1)
_RUNS = 3
_TIMEOUT_S = 10.0


class Probes:
    """Makes the probes of one device, each only if its plan table has a row to look with."""

    def __init__(
        self,
        beliefs: Beliefs,
        lock: threading.Lock,
        table: PlanTable,
        rows: Sequence[PlanRow],
        photographs: Sequence[bytes],
    ) -> None:
        """Remember what the probes share.

        Args:
            beliefs: What is learned.
            lock: Held while learning, and while a network runs here.
            table: All plans.
            rows: Those that may be chosen; probes keep to their networks.
            photographs: Image files to look with.
        """
        self._beliefs = beliefs
        self._lock = lock
        self._table = table
        self._variants = {row.variant for row in rows}
        self._by_size = sorted(photographs, key=len)

    def of_device(self, runner: PlanRunner, pace: Pace) -> list[Probe]:
        """Return a probe that runs the fastest network here, while no request is being answered."""
        work_s = {row: self._profiled_s(row, ("head",), "device") for row in self._rows("local")}
        if not work_s:
            return []
        row = min(work_s, key=work_s.__getitem__)

        def look() -> bool:
            before = self._beliefs.residuals.device.mean
            for _ in range(_RUNS):
                if not self._lock.acquire(blocking=False):
                    break
                try:
                    times = StageTimes(pace)
                    runner.run(row, Job(self._by_size[0], times), timeout_s=_TIMEOUT_S)
                    self._beliefs.learn_device(work_s[row], times.seconds["head"])
                finally:
                    self._lock.release()
            return _differs(self._beliefs.residuals.device.mean, before)

        def is_due() -> bool:
            known = self._beliefs
            return known.residuals.device.mean > _SUSPECT_RATIO and _quiet(known.device_seen_at_s)

        return [Probe(is_due, look)]

    def of_server(self, runner: PlanRunner, transport: HttpTransport | None) -> list[Probe]:
        """Return probes of the link and of the server, over a way of their own.

        The link's sends one photograph as it is; the server's has a network timed there on
        made-up inputs.
        """
        if transport is None:
            return []
        runner = replace(runner, transport=transport)
        probes = [self._link_probe(runner, row) for row in self._rows("file")[:1]]
        probes += [
            self._server_probe(RemoteServer(transport), row) for row in self._rows("tensor")[:1]
        ]
        return probes

    def _link_probe(self, runner: PlanRunner, row: PlanRow) -> Probe:
        beliefs, photographs = self._beliefs, self._by_size
        size_bytes = len(photographs[0])

        def look() -> bool:
            before = beliefs.estimate
            after = probe_again(runner, row, photographs, before)
            with self._lock:
                if beliefs.estimate is before:  # else a request has just told as much
                    beliefs.believe(after)
            return _differs(after.predicted_s(size_bytes, 0), before.predicted_s(size_bytes, 0))

        def is_due() -> bool:  # many small messages say nothing of the rate
            return _quiet(beliefs.link_seen_at_s) or beliefs.estimate.wants_probe

        return Probe(is_due, look)

    def _server_probe(self, remote: RemoteServer, row: PlanRow) -> Probe:
        beliefs = self._beliefs
        work_s = self._profiled_s(row, ("server_decode", "server"), "server")

        def look() -> bool:
            samples_s = remote.measure(row.unit, repetitions=_RUNS).samples_s
            with self._lock:
                before = beliefs.residuals.server.mean
                for seconds in samples_s:
                    beliefs.learn_server(work_s, seconds)
                return _differs(beliefs.residuals.server.mean, before)

        def is_due() -> bool:
            is_slow = beliefs.residuals.server.mean > _SUSPECT_RATIO
            return is_slow and _quiet(beliefs.server_seen_at_s)

        return Probe(is_due, look)

    def _rows(self, family: str) -> list[PlanRow]:
        return [
            row
            for row in self._table.rows
            if row.family == family and row.variant in self._variants
        ]

    def _profiled_s(self, row: PlanRow, stages: Sequence[str], site: str) -> float:
        """Return what some stages take by the profile, apart from what depends on the input."""
        table = self._table
        of_row = table.coefficients[table.rows.index(row), :, table.columns.index(site)]
        return float(sum(of_row[STAGES.index(stage)] for stage in stages))


def _quiet(seen_at_s: float) -> bool:
    return now_s() - seen_at_s >= _QUIET_S


def _differs(after: float, before: float) -> bool:
    return abs(math.log(after / before)) > _CHANGE

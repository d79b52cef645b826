"""Device: decides and carries out one inference after the other, and always has an answer.

It measures and builds nothing; the bundle it opens has been built and profiled before.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from isthmus.device.server_watch import ServerWatch
from isthmus.errors import CodecError, NoPlanError, RemoteError, RemoteTimeoutError
from isthmus.estimation.link import LinkEstimate
from isthmus.loading.bundle import Bundle, open_bundle
from isthmus.planning.decide import decide
from isthmus.profiling.probe import probe_link
from isthmus.runtime.clock import FULL_PACE, Pace, now_s
from isthmus.runtime.heads import Heads
from isthmus.runtime.plan_runner import Job, PlanRunner, Run, StageTimes
from isthmus.runtime.transport import HttpTransport
from isthmus.types.conditions import Conditions
from isthmus.types.link import Link
from isthmus.types.outcome import Outcome, Source, Timeline
from isthmus.types.plan import Family, Plan, PlanRow, PlanTable, Rules

__all__ = ["Device"]

_LOCAL: frozenset[Family] = frozenset({"local"})
_FILE: frozenset[Family] = frozenset({"file"})


class Device:
    """A device with a profiled bundle and, if there is one, an edge server.

    For every input it decides where the input is prepared, where the network is cut and which
    network runs, carries that out, and falls back to the best local plan if the server fails.
    Requests are carried out one at a time; several threads may call ``infer``.

    Examples:
        ::

            with Device("app.isthmus", server="http://edge:8000") as device:
                outcome = device.infer(photo_bytes, deadline_s=0.080)
                outcome.outputs, outcome.source, outcome.plan, outcome.timeline
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        server: str | None = None,
        rules: Rules | None = None,
        threads: int = 1,
        timeout_s: float = 5.0,
        pace: Pace = FULL_PACE,
    ) -> None:
        """Open a bundle, load what the rules may need, and look at the link.

        Without a server, or with one that does not answer, everything runs on the device; a
        server that appears later is found again by itself.

        Args:
            bundle: A profiled bundle, or its folder.
            server: Address of the edge server, e.g. ``http://edge:8000``; ``None`` for none.
            rules: What applies to every request that does not bring its own; by default the most
                accurate network by its fastest plan, everything allowed. Only networks that these
                rules allow are loaded now.
            threads: Threads of one inference on the device.
            timeout_s: Longest time to wait for the server's answer to one request; less where a
                deadline is nearer. Then the best local plan answers.
            pace: How fast this device works; for the lab's emulated devices.

        Raises:
            BundleError: If the bundle is broken or was not profiled.
            ValueError: If the server's address is malformed, or the time-out is not positive.
            ModelError: If a network of the bundle cannot be loaded.
        """
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be positive, got {timeout_s}")
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._table: PlanTable = self._bundle.profiled_table()
        self._rules = rules or Rules()
        self._timeout_s = timeout_s
        self._pace = pace
        self._lock = threading.Lock()
        self._heads = Heads(self._bundle.head_path, threads=threads)
        rows = _rows_of(self._table, self._rules)
        self._heads.load(rows)
        self._transport: HttpTransport | None = None
        self._watch: ServerWatch | None = None
        if server is not None:
            self._transport = HttpTransport(server)
            self._watch = ServerWatch(HttpTransport(server), rows, self._bundle.variants)
        self._runner = PlanRunner(
            self._bundle.variants, self._heads, self._transport, self._predicted_download_s
        )
        self._believe(LinkEstimate.from_link(self._bundle.profiled_link()))
        self._warm_up(rows)
        if self._watch is not None and self._watch.look():
            self._look_at_link()

    def __enter__(self) -> Self:
        """Return the device itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the device."""
        self.close()

    def close(self) -> None:
        """Close the connection and give the networks' memory back."""
        with self._lock:
            if self._watch is not None:
                self._watch.close()
            if self._transport is not None:
                self._transport.close()
            self._heads.close()

    @property
    def link(self) -> Link:
        """The link as it is estimated now."""
        return self._link

    @property
    def is_server_available(self) -> bool:
        """Whether requests may go to the server now."""
        return self._watch is not None and self._watch.is_available

    def labels(self, variant: str) -> tuple[str, ...]:
        """Return the names of a network's classes by index; empty if it has none."""
        return self._bundle.variants[variant].labels

    def infer(
        self, image: bytes, *, deadline_s: float | None = None, rules: Rules | None = None
    ) -> Outcome:
        """Return the network's answer for one photograph, and what happened.

        Args:
            image: Bytes of an image file (JPEG, PNG, WebP).
            deadline_s: Seconds until the answer is needed: the most accurate plan that meets it
                is chosen. It replaces the rules' objective and deadline.
            rules: What applies to this request, instead of the device's own rules.

        Raises:
            ImageError: If the bytes are no image that can be decoded.
            NoPlanError: If no plan satisfies the rules.
            RemoteError: If the server failed and the rules allow no local plan.
            CodecError: If a tensor could not be encoded and the rules allow no local plan.
        """
        wanted = _with_deadline(rules or self._rules, deadline_s)
        with self._lock:
            return self._infer(image, wanted)

    def decide(self, image: bytes, *, rules: Rules | None = None) -> Plan:
        """Return the plan that ``infer`` would choose now, without running it.

        Raises:
            ImageError: If the bytes are no image.
            NoPlanError: If no plan satisfies the rules.
        """
        job = Job(image, StageTimes())
        wanted = rules or self._rules
        with self._lock:
            return decide(self._table, self._conditions(job, wanted), wanted)

    def _infer(self, image: bytes, rules: Rules) -> Outcome:
        begun_at_s = now_s()
        times = StageTimes(self._pace)
        job = Job(image, times)
        plan = self._timed_decision(job, rules, times)
        error = ""
        try:
            run = self._runner.run(plan.row, job, timeout_s=self._patience_s(plan, rules))
            if not plan.row.is_local:
                self._learn(run)
            source = _source(plan)
        except (RemoteError, CodecError) as failure:
            self._learn_from(failure, plan, rules)
            try:
                plan = self._timed_decision(job, _local(rules, now_s() - begun_at_s), times)
            except NoPlanError:
                raise failure from None
            run = self._runner.run(plan.row, job, timeout_s=self._timeout_s)
            source, error = "fallback", f"{type(failure).__name__}: {failure}"
        total_s = now_s() - begun_at_s
        seconds = {f"{stage}_s": value for stage, value in times.seconds.items()}
        unaccounted_s = total_s - sum(seconds.values())
        return Outcome(
            outputs=run.outputs,
            source=source,
            plan=plan,
            timeline=Timeline(**seconds, unaccounted_s=unaccounted_s),
            sent_bytes=run.sent_bytes,
            received_bytes=run.received_bytes,
            was_cold=run.was_cold,
            is_deadline_met=None if rules.deadline_s is None else total_s <= rules.deadline_s,
            error=error,
        )

    def _patience_s(self, plan: Plan, rules: Rules) -> float:
        """Return how long to wait for the server: not beyond a deadline that seemed possible."""
        if rules.deadline_s is None or plan.slack_s < 0:
            return self._timeout_s
        return min(self._timeout_s, rules.deadline_s)

    def _timed_decision(self, job: Job, rules: Rules, times: StageTimes) -> Plan:
        _ = job.facts  # reading the header counts as decoding
        begun_at_s = now_s()
        plan = decide(self._table, self._conditions(job, rules), rules)
        times.add("decide", now_s() - begun_at_s)
        return plan

    def _conditions(self, job: Job, rules: Rules) -> Conditions:
        if self._watch is None or self._transport is None:
            return Conditions(self._link, job.facts, is_server_available=False)
        return Conditions(
            link=self._link,
            image=job.facts,
            is_connected=self._transport.was_connected,
            # A server that failed is left alone only where there is something else to do.
            is_server_available=self._watch.is_available or not _allow_local(rules),
            unit_ready_s=self._watch.unit_ready_s,
        )

    def _believe(self, estimate: LinkEstimate) -> None:
        self._estimate = estimate
        self._link = estimate.link  # made here and not while the next request waits for a decision

    def _learn(self, run: Run) -> None:
        self._believe(self._estimate.observe(run.sent_bytes, run.received_bytes, run.network_s))

    def _learn_from(self, failure: RemoteError | CodecError, plan: Plan, rules: Rules) -> None:
        if isinstance(failure, RemoteTimeoutError):  # it would have taken at least this long
            sent_bytes = round(plan.sent_bytes)
            least_s = max(self._patience_s(plan, rules), self._estimate.predicted_s(sent_bytes, 0))
            self._believe(self._estimate.observe(sent_bytes, 0, least_s))
        if self._watch is not None and isinstance(failure, RemoteError):
            self._watch.report(failure, plan.row.unit)

    def _predicted_download_s(self, received_bytes: int) -> float:
        return self._link.rtt_s / 2 + received_bytes / self._link.downlink_bytes_per_s

    def _warm_up(self, rows: Sequence[PlanRow]) -> None:
        """Decode a photograph once: the first one in a process takes several times as long."""
        job = Job(self._bundle.photographs()[0], StageTimes())
        for variant in {row.variant for row in rows}:
            pipeline = self._bundle.variants[variant].pipeline
            if pipeline is not None:
                job.pixels(pipeline)

    def _look_at_link(self) -> None:
        """Measure the link with the bundle's own photographs; they are nobody's secret."""
        whole = _rows_of(self._table, Rules(variants=self._rules.variants, families=_FILE))
        if whole:
            with contextlib.suppress(RemoteError):  # the first request will find out
                self._believe(probe_link(self._runner, whole[0], self._bundle.photographs()))


def _rows_of(table: PlanTable, rules: Rules) -> tuple[PlanRow, ...]:
    """Return the rows that may run under the rules."""
    return tuple(
        row
        for row in table.rows
        if (rules.variants is None or row.variant in rules.variants)
        and (rules.families is None or row.family in rules.families)
        and not (rules.no_pixels_leave and row.has_pixels)
    )


def _with_deadline(rules: Rules, deadline_s: float | None) -> Rules:
    if deadline_s is None:
        return rules
    return replace(rules, objective="most_accurate", deadline_s=deadline_s)


def _allow_local(rules: Rules) -> bool:
    return rules.families is None or "local" in rules.families


def _local(rules: Rules, spent_s: float) -> Rules:
    """Return the rules for what is left of a request: local plans, in the rest of the deadline.

    Raises:
        NoPlanError: If the rules exclude local plans.
    """
    if not _allow_local(rules):
        raise NoPlanError("the rules allow no local plan")
    if rules.deadline_s is None or rules.deadline_s > spent_s:
        left_s = None if rules.deadline_s is None else rules.deadline_s - spent_s
        return replace(rules, families=_LOCAL, deadline_s=left_s)
    return replace(rules, families=_LOCAL, objective="least_latency", deadline_s=None)


def _source(plan: Plan) -> Source:
    if plan.row.is_local:
        return "device"
    return "split" if plan.row.family == "split" else "edge"

"""Device: a bundle, an edge server and what is known of both, open for one request after the other.

It measures and builds nothing; the bundle it opens has been built and profiled before. How a
request is answered: ``isthmus.device.answerer``.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from isthmus.device.answerer import Answerer
from isthmus.device.beliefs import Beliefs
from isthmus.device.prober import Prober
from isthmus.device.probes import Probes
from isthmus.device.server_watch import ServerWatch
from isthmus.errors import NoPlanError, RemoteError
from isthmus.estimation.link import LinkEstimate
from isthmus.estimation.residuals import Residuals
from isthmus.loading.bundle import Bundle, open_bundle
from isthmus.profiling.departures import departures
from isthmus.profiling.probe import probe_link
from isthmus.runtime.clock import FULL_PACE, Pace
from isthmus.runtime.heads import Heads
from isthmus.runtime.memory import keep_freed_memory
from isthmus.runtime.plan_runner import Job, PlanRunner, StageTimes
from isthmus.runtime.transport import HttpTransport
from isthmus.types.link import Link
from isthmus.types.outcome import Outcome
from isthmus.types.plan import Family, Plan, PlanRow, PlanTable, Rules

__all__ = ["Device"]

_FILE: frozenset[Family] = frozenset({"file"})


class Device:
    """A device with a profiled bundle and, if there is one, an edge server.

    For every input it decides where the input is prepared, where the network is cut and which
    network runs, carries that out, and falls back to the best local plan if the server fails.
    Requests are carried out one at a time; several threads may call ``infer``. A process that is
    forked off has to open its own: the connection, the threads and the lock are the parent's.

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
        is_probing: bool = True,
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
            is_probing: Whether to look, in the background and ever more seldom, at a link that
                no request has used for two seconds or whose rate requests do not tell, and at a
                site that seems slow and is avoided.

        Raises:
            BundleError: If the bundle is broken or was not profiled.
            ValueError: If the server's address is malformed, or the time-out is not positive.
            ModelError: If a network of the bundle cannot be loaded.
        """
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be positive, got {timeout_s}")
        keep_freed_memory()
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._table: PlanTable = self._bundle.profiled_table()
        self._rules = rules or Rules()
        self._pace = pace
        self._threads = threads
        self._lock = threading.Lock()
        self._is_closed = False
        self._process_id = os.getpid()
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
        self._beliefs = Beliefs(LinkEstimate.from_link(self._bundle.profiled_link()))
        self._answerer = Answerer(
            self._table,
            self._runner,
            self._beliefs,
            transport=self._transport,
            watch=self._watch,
            timeout_s=timeout_s,
        )
        photographs = self._bundle.photographs()
        self._warm_up(rows, photographs[0])
        if self._watch is not None and self._watch.look():
            self._look_at_link(photographs)
        self._probing = HttpTransport(server) if is_probing and server is not None else None
        probes = Probes(self._beliefs, self._lock, self._table, rows, photographs)
        self._prober = Prober(
            [*probes.of_device(self._runner, pace), *probes.of_server(self._runner, self._probing)]
            if is_probing
            else [],
            interrupt=self._probing.abort if self._probing is not None else lambda: None,
        )
        with contextlib.suppress(NoPlanError):  # the first request will say so
            self.decide(photographs[0])
        gc.collect()  # what opening left: now, and not while the first request waits

    def __enter__(self) -> Self:
        """Return the device itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the device."""
        self.close()

    def close(self) -> None:
        """Close the connection and give the networks' memory back; may be called twice.

        A request that is being answered is answered first; none is taken any more. In a process
        that was forked off, nothing happens.
        """
        if os.getpid() != self._process_id:
            return
        self._prober.close()
        with self._lock:
            self._is_closed = True
            if self._probing is not None:
                self._probing.close()
            self._answerer.close()
            if self._watch is not None:
                self._watch.close()
            if self._transport is not None:
                self._transport.close()
            self._heads.close()

    @property
    def link(self) -> Link:
        """The link as it is estimated now."""
        return self._beliefs.link

    @property
    def residuals(self) -> Residuals:
        """How much slower than profiled device and server are now, and how predictions err."""
        return self._beliefs.residuals

    @property
    def is_server_available(self) -> bool:
        """Whether requests may go to the server now."""
        return self._watch is not None and self._watch.is_available

    @property
    def disagreements(self) -> tuple[str, ...]:
        """In words, where the server would not answer as this device does; empty if nowhere.

        Looked at when the device is opened and when a server is found again: photographs that
        decode to other pixels there, as with another libjpeg, and formats that a side lacks.
        """
        return () if self._watch is None else self._watch.disagreements

    @property
    def decodes_alike(self) -> bool:
        """Whether the server makes the same pixels of photographs, as far as is known.

        If not, it is sent none to decode unless the rules allow that (``allow_other_pixels``).
        """
        return self._watch is None or self._watch.decodes_alike

    @property
    def departures(self) -> tuple[str, ...]:
        """In words, where device or server is not as profiled (threads, onnxruntime's version)."""
        server = {} if self._watch is None else self._watch.metadata
        return departures(self._bundle.profile or {}, threads=self._threads, server=server)

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
            ValueError: If the device is closed, or was opened by another process.
        """
        wanted = _with_deadline(rules or self._rules, deadline_s)
        self._check_process()
        with self._lock:
            self._check_open()
            outcome = self._answerer.answer(Job(image, StageTimes(self._pace)), wanted)
        self._prober.consider()
        return outcome

    def decide(self, image: bytes, *, rules: Rules | None = None) -> Plan:
        """Return the plan that ``infer`` would choose now, without running it.

        Raises:
            ImageError: If the bytes are no image.
            NoPlanError: If no plan satisfies the rules.
            ValueError: If the device is closed, or was opened by another process.
        """
        wanted = rules or self._rules
        self._check_process()
        with self._lock:
            self._check_open()
            return self._answerer.decide(Job(image, StageTimes()), wanted)[1]

    def _check_process(self) -> None:
        # Two processes on one connection would get each other's answers, and the lock may have
        # been taken for ever by a thread that is not here.
        if os.getpid() != self._process_id:
            raise ValueError("the device was opened by another process: open one in this process")

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("the device is closed")

    def _predicted_download_s(self, received_bytes: int) -> float:
        link = self._beliefs.link
        return link.rtt_s / 2 + received_bytes / link.downlink_bytes_per_s

    def _warm_up(self, rows: Sequence[PlanRow], photograph: bytes) -> None:
        """Decode a photograph once: the first one in a process takes several times as long."""
        job = Job(photograph, StageTimes())
        for variant in {row.variant for row in rows}:
            pipeline = self._bundle.variants[variant].pipeline
            if pipeline is not None:
                job.pixels(pipeline)

    def _look_at_link(self, photographs: Sequence[bytes]) -> None:
        """Measure the link with the bundle's own photographs; they are nobody's secret."""
        whole = _rows_of(self._table, Rules(variants=self._rules.variants, families=_FILE))
        if whole:
            with contextlib.suppress(RemoteError):  # the first request will find out
                estimate = probe_link(self._runner, whole[0], photographs)
                self._beliefs.believe(estimate)


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

"""Send a prepared plan, and run a local one beside it if the answer is late.

Which local plan, and when it starts, is decided elsewhere (``planning.hedging``).
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotReady
from dataclasses import dataclass

from isthmus.errors import RemoteError
from isthmus.runtime.clock import now_s
from isthmus.runtime.plan_runner import Job, PlanRunner, Prepared, Run, StageTimes
from isthmus.runtime.transport import HttpTransport
from isthmus.types.outcome import HedgeUse
from isthmus.types.plan import PlanRow

__all__ = ["HedgedRun", "HedgedSender"]

_GIVEN_UP_AFTER_S = 60.0
"""The exchange's own time-out, which the deadline comes before."""

_LEAVE_S = 0.005
"""So long before the deadline the server's answer is waited for no more: breaking the exchange off
takes 0.7 ms at the median and 3 at most, measured on an idle machine."""


@dataclass(frozen=True)
class HedgedRun:
    """Who answered, and with what.

    Attributes:
        run: The answer.
        times: Where the time went that led to it.
        hedge: What became of the local plan.
        failure: Why the exchange failed, if it did.
        cancelled_after_s: Seconds that the exchange had lasted when it was broken off; 0 if it
            was not.
    """

    run: Run
    times: StageTimes
    hedge: HedgeUse
    failure: RemoteError | None = None
    cancelled_after_s: float = 0.0


class HedgedSender:
    """Sends in a thread of its own, so that a local plan can run meanwhile."""

    def __init__(self, runner: PlanRunner, transport: HttpTransport) -> None:
        """Remember the way to the server, which nobody else may use while a request is sent."""
        self._runner = runner
        self._transport = transport
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="isthmus-hedged")

    def close(self) -> None:
        """End the thread."""
        self._sending.shutdown()

    def send(
        self,
        prepared: Prepared,
        job: Job,
        hedge: PlanRow,
        *,
        start_at_s: float,
        deadline_at_s: float,
    ) -> HedgedRun:
        """Return the server's answer if it comes by the deadline, else the hedge's.

        The hedge starts at ``start_at_s``, or at once when the server fails before, and is run
        to its end. If the server's answer is there by then, or comes a little before the deadline,
        it is taken; otherwise the exchange is broken off, so that the hedge's is in time.

        Args:
            prepared: What is sent.
            job: The input, with the times so far; the hedge goes on with what was made of it.
            hedge: A local row.
            start_at_s: When the hedge starts, on ``runtime.clock``.
            deadline_at_s: When the answer is needed, on ``runtime.clock``.
        """
        times = job.times.copy()
        before_s = sum(times.seconds.values())
        begun_at_s = now_s()
        exchange = self._sending.submit(
            self._runner.send, prepared, job, timeout_s=_GIVEN_UP_AFTER_S
        )
        try:
            run, failure = _answer(exchange, start_at_s)
            if run is not None:
                return HedgedRun(run, job.times, "spared")
            times.add("wait", now_s() - begun_at_s)
            local = self._runner.run(hedge, job.again(times), timeout_s=_GIVEN_UP_AFTER_S)
            local_at_s = now_s()
            if failure is None:
                run, failure = _answer(exchange, deadline_at_s - _LEAVE_S)
        except BaseException:
            self._break_off(exchange)
            raise
        if run is not None:
            exchanged_s = sum(job.times.seconds.values()) - before_s
            job.times.add("wait", max(0.0, now_s() - begun_at_s - exchanged_s))
            return HedgedRun(run, job.times, "lost")
        lasted_s = 0.0 if failure else now_s() - begun_at_s
        self._break_off(exchange)
        times.add("wait", now_s() - local_at_s)
        return HedgedRun(local, times, "won", failure, lasted_s)

    def _break_off(self, exchange: Future[Run]) -> None:
        """Break the exchange off and wait until its thread has seen it."""
        while not exchange.done():
            self._transport.abort()
            with contextlib.suppress(NotReady, RemoteError):
                exchange.result(0.05)


def _answer(exchange: Future[Run], until_s: float) -> tuple[Run | None, RemoteError | None]:
    """Return the answer or the failure, or neither if there is none by ``until_s``."""
    try:
        return exchange.result(max(until_s - now_s(), 0.0)), None
    except NotReady:
        return None, None
    except RemoteError as failure:
        return None, failure

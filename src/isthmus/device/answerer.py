"""Answerer: decides one request, carries it out, learns from it, and always has an answer.

It opens nothing and knows no threads but the hedge's; ``Device`` lets one request in at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from isthmus.device.beliefs import Beliefs
from isthmus.device.hedged import HedgedSender
from isthmus.device.server_watch import ServerWatch
from isthmus.errors import CodecError, NoPlanError, RemoteError, RemoteTimeoutError
from isthmus.planning.decide import decide, will_be_late
from isthmus.planning.midway import decide_midway
from isthmus.runtime.clock import now_s
from isthmus.runtime.plan_runner import Job, PlanRunner, Prepared, Run, StageTimes
from isthmus.runtime.transport import HttpTransport
from isthmus.types.conditions import Conditions
from isthmus.types.outcome import HedgeUse, Outcome, Source, Timeline
from isthmus.types.plan import Family, Plan, PlanTable, Rules

__all__ = ["Answerer"]

_LOCAL: frozenset[Family] = frozenset({"local"})


@dataclass(frozen=True)
class _Answer:
    """How one request was answered; see ``Outcome``."""

    run: Run
    plan: Plan
    times: StageTimes
    source: Source
    error: str = ""
    hedge: HedgeUse = ""
    replaced: tuple[Plan, ...] = ()


@dataclass(frozen=True)
class _Request:
    """What is asked for, and since when."""

    job: Job
    rules: Rules
    begun_at_s: float

    @property
    def spent_s(self) -> float:
        return now_s() - self.begun_at_s


class Answerer:
    """Answers one request after the other, by the plans of a table."""

    def __init__(
        self,
        table: PlanTable,
        runner: PlanRunner,
        beliefs: Beliefs,
        *,
        transport: HttpTransport | None,
        watch: ServerWatch | None,
        timeout_s: float,
    ) -> None:
        """Remember what decisions are made from and plans are carried out with.

        Args:
            table: All plans.
            runner: Carries them out.
            beliefs: What is known of link, device and server; every answer adds to it.
            transport: The way to the server, for requests alone; ``None`` without one.
            watch: Whether that server may be asked; ``None`` without one.
            timeout_s: Longest time to wait for the server's answer.
        """
        self._table = table
        self._runner = runner
        self._beliefs = beliefs
        self._transport = transport
        self._watch = watch
        self._timeout_s = timeout_s
        self._hedged: HedgedSender | None = None

    def close(self) -> None:
        """End the hedge's thread."""
        if self._hedged is not None:
            self._hedged.close()

    def decide(self, job: Job, rules: Rules) -> tuple[Conditions, Plan]:
        """Return the plan for an input, and what it was decided with.

        Raises:
            ImageError: If the bytes are no image.
            NoPlanError: If no plan satisfies the rules.
        """
        _ = job.facts  # reading the header counts as decoding
        begun_at_s = now_s()
        conditions = self._conditions(job, rules)
        plan = decide(self._table, conditions, rules)
        job.times.add("decide", now_s() - begun_at_s)
        return conditions, plan

    def answer(self, job: Job, rules: Rules) -> Outcome:
        """Return the network's answer for one input, and what happened; see ``Device.infer``."""
        begun_at_s = now_s()
        answer = self._answered(_Request(job, rules, begun_at_s))
        total_s = now_s() - begun_at_s
        seconds = {f"{stage}_s": value for stage, value in answer.times.seconds.items()}
        unaccounted_s = total_s - sum(seconds.values())
        return Outcome(
            outputs=answer.run.outputs,
            source=answer.source,
            plan=answer.plan,
            timeline=Timeline(**seconds, unaccounted_s=unaccounted_s),
            sent_bytes=answer.run.sent_bytes,
            sent_as=answer.run.sent_as,
            received_bytes=answer.run.received_bytes,
            was_cold=answer.run.was_cold,
            is_deadline_met=None if rules.deadline_s is None else total_s <= rules.deadline_s,
            error=answer.error,
            hedge=answer.hedge,
            replaced=answer.replaced,
        )

    def _answered(self, request: _Request) -> _Answer:
        """Decide, carry out, learn; and answer locally if the server fails."""
        job = request.job
        conditions, plan = self.decide(job, request.rules)
        replaced: tuple[Plan, ...] = ()
        sent_bytes, patience_s = 0, self._timeout_s
        try:
            prepared = self._runner.prepare(plan.row, job)
            if not plan.row.is_local:
                better = self._reconsidered(plan, prepared, request, conditions)
                if better.index != plan.index:
                    replaced, plan = (plan,), better
                    prepared = self._runner.prepare(plan.row, job)
            if plan.hedge is not None:
                return self._hedged_answer(plan, prepared, request, conditions)
            sent_bytes = prepared.sent_bytes
            patience_s = self._patience_s(plan, request)
            run = self._runner.send(prepared, job, timeout_s=patience_s)
            if not replaced:
                self._beliefs.learn(plan, conditions, job.times.seconds, run)
            elif run.sent_bytes:  # the stages are those of two plans, but the exchange is one's
                self._beliefs.learn_exchange(run, conditions.window_bytes)
            return _Answer(run, plan, job.times, _source(plan), replaced=replaced)
        except (RemoteError, CodecError) as failure:
            if isinstance(failure, RemoteTimeoutError):  # it would have taken at least this long
                self._beliefs.learn_cancelled(plan, sent_bytes, patience_s, conditions.window_bytes)
            self._report(failure, plan, is_cut_short=patience_s < self._timeout_s)
            replaced = (*replaced, plan)
            try:
                _, plan = self.decide(job, _local(request.rules, request.spent_s))
            except NoPlanError:
                raise failure from None
            run = self._runner.run(plan.row, job, timeout_s=self._timeout_s)
            error = f"{type(failure).__name__}: {failure}"
            return _Answer(run, plan, job.times, "fallback", error, replaced=replaced)

    def _reconsidered(
        self, plan: Plan, prepared: Prepared, request: _Request, conditions: Conditions
    ) -> Plan:
        """Return the plan to go on with now that its message's size is known."""
        begun_at_s = now_s()
        better = decide_midway(
            self._table,
            conditions,
            request.rules,
            plan,
            sent_bytes=prepared.sent_bytes,
            spent_s=begun_at_s - request.begun_at_s,
        )
        request.job.times.add("decide", now_s() - begun_at_s)
        return better

    def _hedged_answer(
        self, plan: Plan, prepared: Prepared, request: _Request, conditions: Conditions
    ) -> _Answer:
        """Send, and run the plan's hedge beside it if the answer is late."""
        assert self._transport is not None  # a hedged plan is a remote one
        assert plan.hedge is not None
        assert request.rules.deadline_s is not None
        if self._hedged is None:
            self._hedged = HedgedSender(self._runner, self._transport)
        done = self._hedged.send(
            prepared,
            request.job,
            plan.hedge.row,
            start_at_s=request.begun_at_s + plan.hedge.start_s,
            deadline_at_s=request.begun_at_s + request.rules.deadline_s,
        )
        if done.hedge != "won":
            self._beliefs.learn(plan, conditions, done.times.seconds, done.run)
            return _Answer(done.run, plan, done.times, _source(plan), hedge=done.hedge)
        if done.failure is None:
            self._beliefs.learn_cancelled(
                plan, prepared.sent_bytes, done.cancelled_after_s, conditions.window_bytes
            )
            if self._watch is not None:
                self._watch.doubt()
        elif self._watch is not None:
            self._watch.report(done.failure, plan.row)
        error = f"{type(done.failure).__name__}: {done.failure}" if done.failure else ""
        return _Answer(done.run, plan, done.times, "device", error, done.hedge)

    def _patience_s(self, plan: Plan, request: _Request) -> float:
        """Return how long to wait for the server: not beyond a deadline that seems possible."""
        deadline_s = request.rules.deadline_s
        if deadline_s is None or will_be_late(plan):
            return self._timeout_s
        left_s = deadline_s - request.spent_s
        return min(self._timeout_s, left_s) if left_s > 0 else self._timeout_s

    def _conditions(self, job: Job, rules: Rules) -> Conditions:
        beliefs = self._beliefs
        device = beliefs.residuals.device
        if self._watch is None or self._transport is None:
            return Conditions(
                beliefs.link,
                job.facts,
                is_server_available=False,
                device_slowdown=device.mean,
                device_slowdown_sd=device.sd,
                safety_sds=beliefs.safety_sds,
            )
        server = beliefs.residuals.server
        return Conditions(
            link=beliefs.link,
            image=job.facts,
            is_connected=self._transport.was_connected,
            # A server that failed is left alone only where there is something else to do.
            is_server_available=self._watch.is_available or not _allow_local(rules),
            device_slowdown=device.mean,
            device_slowdown_sd=device.sd,
            server_slowdown=server.mean,
            server_slowdown_sd=server.sd,
            unit_ready_s=self._watch.unit_ready_s,
            decodes_alike=self._watch.decodes_alike,
            window_bytes=self._transport.window_bytes(beliefs.link.rtt_s),
            safety_sds=beliefs.safety_sds,
        )

    def _report(self, failure: RemoteError | CodecError, plan: Plan, *, is_cut_short: bool) -> None:
        """Tell the watch of a failure; an answer that was cut short at its deadline is none."""
        if self._watch is None or isinstance(failure, CodecError):
            return
        if is_cut_short and isinstance(failure, RemoteTimeoutError):
            self._watch.doubt()
        else:
            self._watch.report(failure, plan.row)


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

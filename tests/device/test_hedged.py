"""A hedged request, with a runner whose server answers when the test says so."""

import threading

import pytest

from isthmus.device import hedged
from isthmus.device.hedged import HedgedSender
from isthmus.errors import ModelError, ServerUnreachableError
from isthmus.runtime.clock import now_s
from isthmus.runtime.plan_runner import Job, Prepared, Run, StageTimes
from isthmus.types.plan import PlanRow

LONG_S = 20.0
REMOTE = Run({"answer": "remote"}, sent_bytes=10)
LOCAL = Run({"answer": "local"})
HEDGE = PlanRow("net", "local")
PREPARED = Prepared(PlanRow("net", "file", unit="net.image"), {}, {}, b"0123456789")


class Runner:
    """The server answers once ``answer`` is set; an abort makes the exchange fail."""

    def __init__(self):
        self.answer = threading.Event()
        self.failure = None
        self.broken_off = 0
        self.hedges = 0
        self.during_hedge = lambda: None

    def send(self, prepared, job, *, timeout_s):
        begun_at_s = now_s()
        assert self.answer.wait(LONG_S)
        if self.failure is not None:
            job.times.add("wait", now_s() - begun_at_s)
            raise self.failure
        job.times.add("upload", now_s() - begun_at_s)
        return REMOTE

    def run(self, row, job, *, timeout_s):
        assert row is HEDGE
        self.hedges += 1
        self.during_hedge()
        with job.times.device("head"):
            pass
        return LOCAL

    def abort(self):
        self.broken_off += 1
        self.failure = ServerUnreachableError("broken off")
        self.answer.set()


@pytest.fixture
def runner():
    return Runner()


@pytest.fixture
def send(runner):
    sender = HedgedSender(runner, runner)

    def sent(*, start_s, deadline_s):
        job = Job(b"", StageTimes())
        job.times.add("encode", 0.5)
        begun_at_s = now_s()
        done = sender.send(
            PREPARED,
            job,
            HEDGE,
            start_at_s=begun_at_s + start_s,
            deadline_at_s=begun_at_s + deadline_s,
        )
        elapsed_s = now_s() - begun_at_s
        assert sum(done.times.seconds.values()) == pytest.approx(0.5 + elapsed_s, abs=0.02)
        return done

    yield sent
    sender.close()


def test_an_answer_in_time_spares_the_hedge(runner, send):
    runner.answer.set()
    done = send(start_s=LONG_S, deadline_s=LONG_S)
    assert (done.run, done.hedge, runner.hedges, runner.broken_off) == (REMOTE, "spared", 0, 0)


def test_an_answer_while_the_hedge_runs_is_taken(runner, send):
    runner.during_hedge = runner.answer.set
    done = send(start_s=0.0, deadline_s=LONG_S)
    assert (done.run, done.hedge, runner.hedges, runner.broken_off) == (REMOTE, "lost", 1, 0)


def test_no_answer_by_the_deadline_is_broken_off(runner, send):
    done = send(start_s=0.0, deadline_s=0.02)
    assert (done.run, done.hedge, done.failure) == (LOCAL, "won", None)
    assert runner.broken_off == 1
    assert done.cancelled_after_s >= 0.02 - hedged._LEAVE_S
    runner.answer.clear()
    runner.failure = None
    runner.answer.set()
    assert send(start_s=LONG_S, deadline_s=LONG_S).run is REMOTE, "the next request is sent"


def test_the_hedges_answer_is_not_held_back_until_it_is_late(runner, send, monkeypatch):
    waited = []
    answer = hedged._answer

    def recorded(exchange, until_s):
        waited.append(until_s - now_s())
        return answer(exchange, until_s)

    monkeypatch.setattr(hedged, "_answer", recorded)
    done = send(start_s=0.0, deadline_s=0.1)
    assert done.hedge == "won"
    assert waited[-1] <= 0.1 - hedged._LEAVE_S, "breaking off takes time, too"


def test_a_failure_starts_the_hedge_at_once(runner, send):
    runner.failure = ServerUnreachableError("gone")
    runner.answer.set()
    done = send(start_s=LONG_S, deadline_s=2 * LONG_S)
    assert (done.run, done.hedge, done.failure) == (LOCAL, "won", runner.failure)
    assert done.cancelled_after_s == 0


def test_a_failure_while_the_hedge_runs_is_told(runner, send):
    def fail():
        runner.failure = ServerUnreachableError("gone")
        runner.answer.set()

    runner.during_hedge = fail
    done = send(start_s=0.0, deadline_s=LONG_S)
    assert (done.run, done.hedge, done.failure) == (LOCAL, "won", runner.failure)


def test_a_hedge_that_cannot_run_leaves_no_exchange_behind(runner, send):
    def fail():
        raise ModelError("broken")

    runner.during_hedge = fail
    with pytest.raises(ModelError):
        send(start_s=0.0, deadline_s=LONG_S)
    assert runner.broken_off == 1

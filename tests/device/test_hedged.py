"""A hedged request, with a server that answers when the test says so, and a manual clock."""

import threading

import pytest

from isthmus.device import hedged
from isthmus.device.hedged import HedgedSender
from isthmus.errors import ModelError, ServerUnreachableError
from isthmus.runtime.plan_runner import Job, Prepared, Run, StageTimes
from isthmus.types.plan import PlanRow

LONG_S = 60.0  # never waited for: what needs it fails
HEDGE_S = 1.0
REMOTE = Run({"answer": "remote"}, sent_bytes=10)
LOCAL = Run({"answer": "local"})
HEDGE = PlanRow("net", "local")
PREPARED = Prepared(PlanRow("net", "file", unit="net.image"), {}, {}, b"0123456789")


class Clock:
    """Time that passes while the hedge runs, and not while anybody waits."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Runner:
    """The server answers once ``answer`` is set; an abort makes the exchange fail."""

    def __init__(self, clock):
        self.clock = clock
        self.answer = threading.Event()
        self.failure = None
        self.is_broken_off = False
        self.hedges = 0
        self.during_hedge = lambda: None

    def send(self, prepared, job, *, timeout_s):
        begun_at_s = self.clock()
        assert self.answer.wait(LONG_S)
        if self.failure is not None:
            job.times.add("wait", self.clock() - begun_at_s)
            raise self.failure
        job.times.add("upload", self.clock() - begun_at_s)
        return REMOTE

    def run(self, row, job, *, timeout_s):
        assert row is HEDGE
        self.hedges += 1
        self.clock.now += HEDGE_S
        job.times.add("head", HEDGE_S)
        self.during_hedge()
        return LOCAL

    def abort(self):
        self.is_broken_off = True
        self.failure = ServerUnreachableError("broken off")
        self.answer.set()


@pytest.fixture
def runner(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(hedged, "now_s", clock)
    return Runner(clock)


@pytest.fixture
def send(runner):
    sender = HedgedSender(runner, runner)

    def sent(*, start_s, deadline_s):
        job = Job(b"", StageTimes())
        job.times.add("encode", 0.5)
        begun_at_s = runner.clock()
        done = sender.send(
            PREPARED,
            job,
            HEDGE,
            start_at_s=begun_at_s + start_s,
            deadline_at_s=begun_at_s + deadline_s,
        )
        elapsed_s = runner.clock() - begun_at_s
        assert sum(done.times.seconds.values()) == pytest.approx(0.5 + elapsed_s)
        return done

    yield sent
    sender.close()


def test_an_answer_in_time_spares_the_hedge(runner, send):
    runner.answer.set()
    done = send(start_s=LONG_S, deadline_s=LONG_S)
    assert (done.run, done.hedge, runner.hedges) == (REMOTE, "spared", 0)
    assert not runner.is_broken_off


def test_an_answer_while_the_hedge_runs_is_taken(runner, send):
    runner.during_hedge = runner.answer.set
    done = send(start_s=0.0, deadline_s=LONG_S)
    assert (done.run, done.hedge, runner.hedges) == (REMOTE, "lost", 1)
    assert not runner.is_broken_off


def test_no_answer_by_the_deadline_is_broken_off(runner, send):
    done = send(start_s=0.0, deadline_s=HEDGE_S)
    assert (done.run, done.hedge, done.failure) == (LOCAL, "won", None)
    assert runner.is_broken_off
    assert done.cancelled_after_s == HEDGE_S
    runner.failure = None
    assert send(start_s=LONG_S, deadline_s=LONG_S).run is REMOTE, "the next request is sent"


def test_the_hedges_answer_is_not_held_back_until_it_is_late(runner, send, monkeypatch):
    waited = []
    answer = hedged._answer

    def recorded(exchange, until_s):
        waited.append(until_s - runner.clock())
        return answer(exchange, until_s)

    monkeypatch.setattr(hedged, "_answer", recorded)
    done = send(start_s=0.0, deadline_s=HEDGE_S + 0.1)
    assert done.hedge == "won"
    assert waited == pytest.approx([0.0, 0.1 - hedged._LEAVE_S]), "breaking off takes time, too"


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
    assert runner.is_broken_off

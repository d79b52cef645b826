import threading

import pytest

from isthmus.device.prober import Probe, Prober
from isthmus.errors import ServerUnreachableError

LONG_S = 60.0


class Looking:
    """A probe that is due when told so, and a clock that moves when told so."""

    def __init__(self):
        self.now_s = 100.0
        self.due = True
        self.changes = False
        self.failure = None
        self.looks = 0
        self.asked = 0

    def is_due(self):
        self.asked += 1
        return self.due

    def look(self):
        self.looks += 1
        if self.failure:
            raise self.failure
        return self.changes


@pytest.fixture
def looking():
    return Looking()


@pytest.fixture
def consider(looking):
    prober = Prober([Probe(looking.is_due, looking.look)], now_s=lambda: looking.now_s)

    def after(seconds):
        looking.now_s += seconds
        before = looking.looks
        prober.consider()
        assert prober._background.wait(LONG_S)
        return looking.looks - before

    yield after
    prober.close()


def test_it_looks_ever_more_seldom_where_nothing_changes(consider):
    found = []
    for _ in range(3 * 64):
        found.append(consider(1.0))
    gaps = [i for i, looked in enumerate(found, start=1) if looked]
    assert gaps == [1, 3, 7, 15, 31, 63, 123, 183]  # the longest pause is a minute


def test_a_change_makes_it_look_again_soon(consider, looking):
    for _ in range(10):
        consider(1.0)
    looking.changes = True
    while not consider(1.0):
        pass
    assert consider(1.0) == 1


def test_what_is_in_use_is_not_probed(consider, looking):
    looking.due = False
    assert consider(LONG_S) == 0
    looking.due = True
    assert consider(0.0) == 1


def test_a_dead_server_is_no_end(consider, looking):
    looking.failure = ServerUnreachableError("gone")
    assert consider(1.0) == 1
    assert consider(2.0) == 1


def test_one_look_at_a_time_and_none_after_closing(looking):
    begun, go_on = threading.Event(), threading.Event()

    def look():
        begun.set()
        assert go_on.wait(LONG_S)
        return False

    prober = Prober([Probe(looking.is_due, look)], now_s=lambda: looking.now_s)
    looking.now_s += 1
    prober.consider()
    assert begun.wait(LONG_S)
    asked = looking.asked
    looking.now_s += LONG_S
    prober.consider()
    assert looking.asked == asked
    go_on.set()
    prober.close()
    looking.now_s += LONG_S
    prober.consider()
    assert looking.asked == asked


def test_two_requests_that_end_together_begin_one_look():
    """Two looks would write over one connection."""
    begun, go_on = threading.Event(), threading.Event()
    now_s, looks, asked = 100.0, [], []

    def look():
        looks.append(threading.current_thread())
        begun.set()
        assert go_on.wait(LONG_S)
        return False

    def is_due():
        asked.append(threading.current_thread())
        if len(asked) == 1:  # meanwhile another request ends
            other = threading.Thread(target=prober.consider)
            other.start()
            other.join(LONG_S)
            assert begun.wait(LONG_S)
        return True

    prober = Prober([Probe(is_due, look)], now_s=lambda: now_s)
    now_s += 1
    prober.consider()
    go_on.set()
    prober.close()
    assert (len(asked), len(looks)) == (2, 1)


def test_closing_interrupts_a_look(looking):
    begun, interrupted = threading.Event(), threading.Event()

    def look():
        begun.set()
        assert interrupted.wait(LONG_S)
        raise ServerUnreachableError("broken off")

    prober = Prober(
        [Probe(looking.is_due, look), Probe(looking.is_due, looking.look)],
        interrupt=interrupted.set,
        now_s=lambda: looking.now_s,
    )
    looking.now_s += 1
    prober.consider()
    assert begun.wait(LONG_S)
    prober.close()
    assert looking.looks == 0, "nothing else is begun"


def test_a_look_that_fails_by_a_mistake_is_not_repeated_at_once(consider, looking, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    looking.failure = ValueError("a mistake")
    assert [consider(1.0) for _ in range(3)] == [1, 0, 1]
    assert told == 2 * [looking.failure], "it is not hidden"

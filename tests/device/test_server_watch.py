"""The watch over a server: when it looks, what it asks for, and when it stays away."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace
from itertools import pairwise

import pytest

from isthmus.device import server_watch
from isthmus.device.server_watch import ServerWatch
from isthmus.errors import (
    RemoteTimeoutError,
    ServerRefusedError,
    ServerUnreachableError,
)
from isthmus.runtime.fingerprint import fingerprint
from isthmus.runtime.transport import Exchange
from isthmus.types.plan import PlanRow
from isthmus.types.variant import Variant

_ROWS = (
    PlanRow("net", "local"),
    PlanRow("net", "split", ("a",), "id-a", "raw", "net.tail-id-a"),
    PlanRow("net", "split", ("a",), "id-a", "u8+zstd", "net.tail-id-a"),
    PlanRow("net", "split", ("b",), "id-b", "raw", "net.tail-id-b"),
)
_TAILS = {"a": "net.tail-id-a", "b": "net.tail-id-b"}
_VARIANTS = {name: Variant(name, "f" * 64, "task", None, None) for name in ("net", "other")}
_FILE = PlanRow("net", "file", unit="net.image")
LONG_S = 60.0


class FakeServer:
    """A transport to a server that answers, refuses or is gone, as the test says."""

    is_connected = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.refused: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.metadata: dict[str, object] = {"name": "of others"}
        self.at = ""
        self.there, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def exchange(self, method, path, *, headers=None, body=b"", timeout_s):
        self.asked.append(path)
        if path == self.at:
            self.there.set()
            assert self.go_on.wait(LONG_S)
        if self.failure is not None:
            raise self.failure
        reply = self.metadata if path == "v2" else {}
        if path in self.unknown:
            raise ServerRefusedError(404, "unknown model")
        if path.endswith("/cuts"):
            tensor = json.loads(body)["tensors"][0]
            if tensor in self.refused:
                raise ServerRefusedError(self.refused[tensor], "no")
            variant = path.split("/")[3]
            reply = {"model": _TAILS[tensor].replace("net", variant)}
        return Exchange({}, json.dumps(reply).encode(), 1, 1, 0.0, 0.001)

    def abort(self):
        if self.asked[-1] != "abort":  # it is repeated until the look has ended
            self.asked.append("abort")
        self.failure = ServerUnreachableError("broken off")
        self.go_on.set()

    def close(self):
        self.asked.append("close")


class ManualClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    manual = ManualClock()
    monkeypatch.setattr(server_watch, "now_s", manual)
    return manual


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def watch(server, clock):
    watch = ServerWatch(server, _ROWS, _VARIANTS)
    yield watch
    watch.close()


def _settle(watch):
    """Wait for the thread that looks, if there is one."""
    assert watch._background.wait(LONG_S)


def test_tails_are_missing_until_the_server_has_made_them(watch, server):
    assert watch.unit_ready_s == dict.fromkeys(_TAILS.values(), math.inf)
    assert watch.look()
    assert watch.is_available
    assert watch.unit_ready_s == {}
    assert sum(path.endswith("/cuts") for path in server.asked) == 2, "one for each tail"


def test_a_tail_that_is_refused_stays_missing(watch, server):
    server.refused = {"b": 409}
    assert watch.look()
    assert watch.unit_ready_s == {"net.tail-id-b": math.inf}


def test_an_unreachable_server_is_left_alone_for_longer_and_longer(watch, server, clock):
    server.failure = ServerUnreachableError("gone")
    assert not watch.look()
    looks = []
    for _ in range(200):
        clock.now += 0.5
        before = len(server.asked)
        assert not watch.is_available
        _settle(watch)
        if len(server.asked) > before:
            looks.append(clock.now)
    pauses = [b - a for a, b in pairwise(looks)]
    assert looks[0] - 100 == 1.0
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert max(pauses) <= 30.5


def test_a_server_that_returns_is_found_again(watch, server, clock):
    server.failure = ServerUnreachableError("gone")
    watch.look()
    server.failure = None
    clock.now += 1.0
    assert not watch.is_available, "this request does not wait for the look"
    _settle(watch)
    assert watch.is_available


@pytest.mark.parametrize(
    "failure",
    [ServerUnreachableError("x"), RemoteTimeoutError("x"), ServerRefusedError(503, "x")],
)
def test_a_failure_keeps_requests_away(watch, failure):
    watch.look()
    watch.report(failure, _FILE)
    assert not watch.is_available


def test_a_server_in_doubt_is_looked_at_and_used_meanwhile(watch, server):
    watch.look()
    server.at = "v2/health/ready"
    server.go_on.clear()
    watch.doubt()
    assert server.there.wait(LONG_S)
    assert watch.is_available
    server.failure = ServerUnreachableError("gone")
    server.go_on.set()
    _settle(watch)
    assert not watch.is_available


def test_a_server_that_cannot_make_a_tail_now_is_used_without(watch, server, clock):
    server.refused = {"b": 409}
    watch.look()
    server.refused = {"b": 503}
    clock.now += 60.0
    assert watch.is_available
    _settle(watch)
    assert watch.is_available
    assert watch.unit_ready_s == {"net.tail-id-b": math.inf}


@pytest.mark.parametrize("status", [400, 413])
def test_a_refusal_says_nothing_about_the_next_request(watch, status):
    watch.look()
    watch.report(ServerRefusedError(status, "no"), _FILE)
    assert watch.is_available


def test_a_forgotten_tail_is_asked_for_again(watch, server):
    watch.look()
    server.asked.clear()
    watch.report(ServerRefusedError(404, "unknown model"), _ROWS[1])
    _settle(watch)
    assert sum(path.endswith("/cuts") for path in server.asked) == 2
    assert watch.unit_ready_s == {}
    assert watch.is_available


def test_a_network_that_the_server_does_not_know_is_left_out_until_it_does(watch, server, clock):
    """Otherwise every photograph was sent to it in vain."""
    watch.look()
    server.unknown = {"v2/models/net.image/ready"}
    watch.report(ServerRefusedError(404, "unknown model"), _FILE)
    _settle(watch)
    assert watch.unit_ready_s == {"net.image": math.inf}
    assert watch.is_available, "its other models are there"
    server.unknown = set()
    clock.now += 60.0
    assert watch.is_available
    _settle(watch)
    assert watch.unit_ready_s == {}


def test_a_tail_that_nobody_spoke_of_before_is_asked_for(watch, server):
    """Rules of a request may allow what the device's own do not."""
    watch.look()
    server.asked.clear()
    other = replace(_ROWS[1], variant="other", unit="other.tail-id-a")
    server.at = "v2/health/ready"
    server.go_on.clear()
    watch.report(ServerRefusedError(404, "unknown model"), other)
    assert watch.unit_ready_s == dict.fromkeys([*_TAILS.values(), other.unit], math.inf)
    server.go_on.set()
    _settle(watch)
    assert watch.unit_ready_s == {}


def test_what_is_missed_during_a_look_stays_missing(watch, server):
    """A look that began before the server was restarted knows nothing of it."""
    watch.report(ServerUnreachableError("gone"), _FILE)
    server.go_on.clear()
    server.at = "v2/isthmus/models/net/cuts"
    looking = threading.Thread(target=watch.look)
    looking.start()
    assert server.there.wait(LONG_S)
    watch.report(ServerRefusedError(404, "unknown model"), _FILE)
    server.unknown = {"v2/models/net.image/ready"}
    server.go_on.set()
    looking.join(LONG_S)
    _settle(watch)
    assert watch.unit_ready_s == {"net.image": math.inf}


def test_a_failure_during_a_look_outlives_it(watch, server, clock):
    """A look that began before the server failed says nothing of it."""
    server.go_on.clear()
    server.at = "v2/health/ready"
    looking = threading.Thread(target=watch.look)
    looking.start()
    assert server.there.wait(LONG_S)
    watch.report(ServerUnreachableError("gone"), _FILE)
    server.go_on.set()
    looking.join(LONG_S)
    assert not watch.is_available
    clock.now += 1.0
    assert not watch.is_available, "this request does not wait for the look"
    _settle(watch)
    assert watch.is_available


def test_closing_interrupts_a_look(server, clock):
    """A server that says nothing would hold it up for ten seconds, a tail for a minute."""
    watch = ServerWatch(server, _ROWS, _VARIANTS)
    server.go_on.clear()
    server.at = "v2/health/ready"
    assert not watch.is_available
    assert server.there.wait(LONG_S)
    watch.close()
    assert server.asked == ["v2/health/ready", "abort", "close"]


def test_a_server_that_decodes_otherwise_is_told_whenever_it_is_looked_at(watch, server):
    assert watch.look()
    assert watch.disagreements == ()
    assert watch.decodes_alike
    here = fingerprint()
    others = [min(level + 30, 255) for level in here["golden_pixels"]]
    server.metadata = {"libraries": {"pillow": "9.0"}, "golden_pixels": others}
    assert watch.look()
    (what,) = watch.disagreements
    assert "decode 30 grey levels apart" in what
    assert "Pillow 9.0" in what
    assert not watch.decodes_alike
    assert watch.metadata == server.metadata
    server.metadata = here
    assert watch.look()
    assert watch.decodes_alike
    assert watch.disagreements == ()

"""The watch over a server: when it looks, what it asks for, and when it stays away."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest

from isthmus.device import server_watch
from isthmus.device.server_watch import ServerWatch
from isthmus.errors import (
    RemoteTimeoutError,
    ServerRefusedError,
    ServerUnreachableError,
)
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


class FakeServer:
    """A transport to a server that answers, refuses or is gone, as the test says."""

    is_connected = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Exception | None = None
        self.refused: dict[str, int] = {}

    def exchange(self, method, path, *, headers=None, body=b"", timeout_s):
        self.asked.append(path)
        if self.failure is not None:
            raise self.failure
        reply = {}
        if path.endswith("/cuts"):
            tensor = json.loads(body)["tensors"][0]
            if tensor in self.refused:
                raise ServerRefusedError(self.refused[tensor], "no")
            reply = {"model": _TAILS[tensor]}
        return Exchange({}, json.dumps(reply).encode(), 1, 1, 0.0, 0.001)

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
    watch = ServerWatch(server, _ROWS, {"net": Variant("net", "f" * 64, "task", None, None)})
    yield watch
    watch.close()


def _settle(watch):
    """Wait for the thread that looks, if there is one."""
    if watch._looking is not None:
        watch._looking.join()


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
    watch.report(failure, "net")
    assert not watch.is_available


@pytest.mark.parametrize("status", [400, 413])
def test_a_refusal_says_nothing_about_the_next_request(watch, status):
    watch.look()
    watch.report(ServerRefusedError(status, "no"), "net")
    assert watch.is_available


def test_a_forgotten_tail_is_asked_for_again(watch, server):
    watch.look()
    server.asked.clear()
    watch.report(ServerRefusedError(404, "unknown model"), "net.tail-id-a")
    _settle(watch)
    assert sum(path.endswith("/cuts") for path in server.asked) == 2
    assert watch.unit_ready_s == {}
    assert watch.is_available

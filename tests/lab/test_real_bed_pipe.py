"""The real bed's pipe with a manual clock: exact, and without root."""

from __future__ import annotations

import os
import socket
import sys
from types import SimpleNamespace

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the real bed is Linux's", allow_module_level=True)

from isthmus.lab import real_bed_pipe
from isthmus.lab.real_bed_pipe import LEAST_QUEUE_BYTES, MTU_BYTES, QUEUE_S, _Lane

BYTES_PER_S = 1e6
FULL = bytes(MTU_BYTES)
FULL_S = MTU_BYTES / BYTES_PER_S


class Pipe:
    """A lane between two ends that keep packets apart, and the clock."""

    def __init__(self, source, target):
        self.now = 100.0
        self.source, self.target = source, target
        self.lane = _Lane(source[1].fileno(), target[0].fileno())

    def send(self, *packets):
        for packet in packets:
            self.source[0].send(packet)
        self.lane.take()

    def arrived_by(self, seconds):
        """Return what has arrived when the clock shows so many seconds."""
        self.now = 100.0 + seconds
        self.lane.deliver()
        found = []
        while True:
            try:
                found.append(os.read(self.target[1].fileno(), 2 * MTU_BYTES))
            except BlockingIOError:
                return found


@pytest.fixture
def pipe(monkeypatch):
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    for end in (*ends[0], *ends[1]):
        end.setblocking(False)
    made = Pipe(*ends)
    monkeypatch.setattr(real_bed_pipe, "time", SimpleNamespace(monotonic=lambda: made.now))
    made.lane.shape(BYTES_PER_S, 0.030)
    yield made
    for end in (*ends[0], *ends[1]):
        end.close()


def test_packets_follow_one_another_at_the_rate_and_arrive_after_the_delay(pipe):
    pipe.send(FULL, FULL, b"short")
    assert pipe.lane.due_at_s == pytest.approx(100.0 + FULL_S + 0.030)
    assert pipe.arrived_by(FULL_S + 0.0299) == []
    assert pipe.arrived_by(FULL_S + 0.0301) == [FULL]
    assert pipe.arrived_by(2 * FULL_S + 0.0301) == [FULL, b"short"]
    assert pipe.lane.due_at_s == float("inf")
    assert pipe.lane.carried_bytes == 2 * MTU_BYTES + 5


def test_an_idle_wire_starts_at_once(pipe):
    pipe.send(FULL)
    pipe.arrived_by(1.0)
    pipe.send(FULL)
    assert pipe.lane.due_at_s == pytest.approx(101.0 + FULL_S + 0.030)


def test_a_full_queue_drops_what_comes_last(pipe):
    fitting = int(QUEUE_S / FULL_S)
    for number in range(fitting + 5):
        pipe.send(bytes([number]) * MTU_BYTES)
    assert pipe.lane.dropped == 5
    arrived = pipe.arrived_by(10.0)
    assert [packet[0] for packet in arrived] == list(range(fitting))


def test_the_queue_of_a_slow_wire_holds_a_few_packets(pipe):
    pipe.lane.shape(1000.0, 0.0)
    for _ in range(LEAST_QUEUE_BYTES // MTU_BYTES + 1):
        pipe.send(FULL)
    assert pipe.lane.dropped == 1


def test_a_shorter_delay_lets_nobody_overtake(pipe):
    pipe.send(b"first")
    pipe.lane.shape(BYTES_PER_S, 0.0)
    pipe.send(b"second")
    assert pipe.arrived_by(0.0299) == []
    assert pipe.arrived_by(0.0301) == [b"first", b"second"]

"""The emulated link, with real sockets on loopback and its relay in a process of its own.

Nothing arrives sooner than rate and round trip allow, however busy the machine is; how much later
is not asked here, but in virtual time (``test_shaper_wires``).
"""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from isthmus.errors import ConditionsError, LabError
from isthmus.lab.shaper import ShapedLink

MBIT = 1e6
LONG_S = 60.0  # never waited for
REPLY = b"!"


class CountingServer:
    """Answers each message (8 bytes of length, then that many) with one byte."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.has_seen_end = threading.Event()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.open.append(connection)
            self.threads.append(threading.Thread(target=self._answer, args=(connection,)))
            self.threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream:
            try:
                while len(header := stream.read(8)) == 8:
                    stream.read(int.from_bytes(header))
                    connection.sendall(REPLY)
                self.has_seen_end.set()
                connection.sendall(b"end")
            except OSError:
                return

    def close(self) -> None:
        for end in (*self.open, self.listener):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        self.listener.close()


@pytest.fixture
def server() -> Iterator[CountingServer]:
    running = CountingServer()
    yield running
    running.close()


def connect(link: ShapedLink) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", link.port), timeout=LONG_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def exchange_s(client: socket.socket, size_bytes: int) -> float:
    """Send a message of ``size_bytes`` in all, wait for its reply, return how long that took."""
    body = bytes(size_bytes - 8)
    started_s = time.perf_counter()
    client.sendall(len(body).to_bytes(8) + body)
    assert client.recv(1) == REPLY
    return time.perf_counter() - started_s


def test_counts_every_byte_of_both_directions_and_the_connections(server: CountingServer) -> None:
    sizes = [8, 9, 511, 512, 513, 4096, 65535, 65536, 65537, 200_000]
    with ShapedLink(server.port, rate_bits_per_s=400 * MBIT, rtt_s=0.0) as link:
        assert (link.sent_bytes(), link.received_bytes(), link.connections()) == (0, 0, 0)
        with connect(link) as first, connect(link) as second:
            total = 0
            for count, size in enumerate(sizes, start=1):
                exchange_s(first if count % 2 else second, size)
                total += size
                assert link.sent_bytes() == total
                assert link.received_bytes() == count
            assert link.connections() == 2


@pytest.mark.parametrize(("rate_mbit_per_s", "size_bytes"), [(1, 700), (4, 150_000), (64, 600_000)])
def test_takes_the_time_of_its_rate(
    server: CountingServer, rate_mbit_per_s: float, size_bytes: int
) -> None:
    rate_bits_per_s = rate_mbit_per_s * MBIT
    ideal_s = (size_bytes + 1) * 8 / rate_bits_per_s + 0.020
    with ShapedLink(server.port, rate_bits_per_s=rate_bits_per_s, rtt_s=0.020) as link:
        with connect(link) as client:
            assert min(exchange_s(client, size_bytes) for _ in range(2)) >= ideal_s


def test_connections_share_one_wire(server: CountingServer) -> None:
    with ShapedLink(server.port, rate_bits_per_s=8 * MBIT, rtt_s=0.0) as link:
        with connect(link) as first, connect(link) as second:
            other = threading.Thread(target=exchange_s, args=(second, 100_000))
            started_s = time.perf_counter()
            other.start()
            exchange_s(first, 100_000)
            other.join()
            took_s = time.perf_counter() - started_s
    assert took_s >= 0.200


def test_the_two_directions_have_rates_of_their_own() -> None:
    """At the downlink's rate the message would never arrive."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            ShapedLink(
                port, rate_bits_per_s=64 * MBIT, downlink_bits_per_s=1000, rtt_s=0.0
            ) as link,
            connect(link) as client,
            listener.accept()[0] as accepted,
        ):
            accepted.settimeout(LONG_S)
            client.sendall(bytes(50_000))
            left = 50_000
            while left:
                left -= len(accepted.recv(left))
            started_s = time.perf_counter()
            accepted.sendall(bytes(20))
            left = 20
            while left:
                left -= len(client.recv(left))
            down_s = time.perf_counter() - started_s
    assert down_s >= 20 * 8 / 1000


def test_rate_and_round_trip_change_while_running(server: CountingServer) -> None:
    with ShapedLink(server.port, rate_bits_per_s=1000, rtt_s=0.0) as link:
        with connect(link) as client:
            link.set(rate_bits_per_s=100 * MBIT)
            exchange_s(client, 25_000)  # would have taken 200 s
            link.set(rate_bits_per_s=2 * MBIT)
            assert exchange_s(client, 25_000) >= 0.100
            link.set(rtt_s=0.060)
            assert exchange_s(client, 25_000) >= 0.160
            link.set(rate_bits_per_s=100 * MBIT, rtt_s=0.0)
            exchange_s(client, 25_000)


def test_does_not_swallow_what_the_wire_cannot_carry() -> None:
    """Of 5 MB at 1 Mbit/s the wire carries 125 kB a second; the rest must wait at the sender."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with ShapedLink(port, rate_bits_per_s=1 * MBIT, rtt_s=0.0) as link:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
                client.connect(("127.0.0.1", link.port))
                client.settimeout(0.1)
                pushed, data = 0, memoryview(bytes(5_000_000))
                started_s = time.perf_counter()
                with contextlib.suppress(TimeoutError):
                    while time.perf_counter() < started_s + 0.1:
                        pushed += client.send(data[pushed:])
                carried = link.sent_bytes()
                elapsed_s = time.perf_counter() - started_s
    assert 0 < carried < elapsed_s * MBIT / 8 + 10_000
    assert 0 < pushed - carried < 150_000


def test_end_of_sending_reaches_the_server_and_the_reply_still_comes(
    server: CountingServer,
) -> None:
    with ShapedLink(server.port, rate_bits_per_s=8 * MBIT, rtt_s=0.010) as link:
        with connect(link) as client:
            exchange_s(client, 1000)
            client.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == b"end"
            assert server.has_seen_end.is_set()


def test_a_server_that_refuses_closes_the_connection() -> None:
    with socket.socket() as deaf:  # it keeps its port, and listens to nobody
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        with ShapedLink(port, rate_bits_per_s=8 * MBIT, rtt_s=0.0) as link:
            with connect(link) as client, contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""


def test_a_server_that_dies_closes_the_connection(server: CountingServer) -> None:
    with ShapedLink(server.port, rate_bits_per_s=1 * MBIT, rtt_s=0.010) as link:
        with connect(link) as client:
            exchange_s(client, 100)
            server.close()
            with contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""


def test_a_server_that_dies_stops_an_upload(server: CountingServer) -> None:
    with ShapedLink(server.port, rate_bits_per_s=1 * MBIT, rtt_s=0.010) as link:
        with connect(link) as client:
            exchange_s(client, 100)
            killer = threading.Timer(0.1, server.close)
            killer.start()
            with pytest.raises(ConnectionError):
                client.sendall((1_000_000).to_bytes(8) + bytes(10_000_000))
            killer.join()


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_refuses_impossible_rates(rate: float) -> None:
    with pytest.raises(ConditionsError, match="rate"):
        ShapedLink(1, rate_bits_per_s=rate, rtt_s=0.0)


@pytest.mark.parametrize("rtt_s", [-0.001, math.nan, math.inf])
def test_refuses_impossible_round_trips(rtt_s: float) -> None:
    with pytest.raises(ConditionsError, match="round trip"):
        ShapedLink(1, rate_bits_per_s=1.0, rtt_s=rtt_s)


@pytest.mark.parametrize("server", ["", "https://edge:8000", "http://", "http://edge:99999"])
def test_refuses_servers_it_cannot_reach(server: str) -> None:
    with pytest.raises(LabError, match="server"):
        ShapedLink(server, rate_bits_per_s=1.0, rtt_s=0.0)


def test_says_so_when_it_does_not_run() -> None:
    link = ShapedLink("http://127.0.0.1:1", rate_bits_per_s=1.0, rtt_s=0.0)
    with pytest.raises(LabError, match="not running"):
        link.sent_bytes()
    with link:
        assert link.sent_bytes() == 0
        assert link.url == f"http://127.0.0.1:{link.port}"
    with pytest.raises(LabError, match="not running"):
        link.set(rtt_s=0.1)


def test_says_so_when_the_relay_was_killed() -> None:
    with ShapedLink(1, rate_bits_per_s=1.0, rtt_s=0.0) as link:
        assert link._process is not None
        link._process.kill()
        link._process.wait()
        with pytest.raises(LabError, match="ended"):
            link.sent_bytes()


PARENT = """
import sys, time
from isthmus.lab.shaper import ShapedLink
with ShapedLink(1, rate_bits_per_s=1.0, rtt_s=0.0) as link:
    print("running", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_leaves_no_orphan_when_its_parent_ends(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.send_signal(how)
        # The relay holds the parent's pipes too, so they end when both processes have ended.
        _, errors = parent.communicate(timeout=LONG_S)
    assert b"asyncio" not in errors

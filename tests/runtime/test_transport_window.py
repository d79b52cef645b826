import math
import struct
import sys

import pytest

from isthmus.types.link import INITIAL_WINDOW_BYTES

LONG_S = 60.0  # never reached: what needs it fails


def answering(server, connection):
    while server.read_request(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


needs_tcp_info = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is read on Linux")


def told(*, state=1, timeout_s=0.2, segment_bytes=1448, idle_s=0.0, rtt_s=0.1, segments=40):
    """Return ``struct tcp_info`` as linux/tcp.h lays it out."""
    info = bytearray(84)
    info[0] = state
    for offset, value in {
        8: timeout_s * 1e6, 16: segment_bytes, 44: idle_s * 1e3, 68: rtt_s * 1e6, 80: segments
    }.items():  # fmt: skip
        struct.pack_into("@I", info, offset, round(value))
    return bytes(info)


@pytest.fixture
def window_when(serve, connect):
    """The window of a transport whose connection is in some state."""

    def window(link_rtt_s=0.1, restarts_after_idle=True, **state):
        transport = connect(serve(answering).url)
        transport.exchange("GET", "v2", timeout_s=LONG_S)
        wire = transport._connection.sock
        wire.restarts_after_idle = restarts_after_idle
        wire.getsockopt = lambda *_: told(**state)
        return transport.window_bytes(link_rtt_s)

    return window


@needs_tcp_info
def test_the_window_is_that_of_the_connection(window_when):
    assert window_when(segments=40) == 40 * 1448
    assert window_when(segments=40, segment_bytes=536) == 40 * 536


@needs_tcp_info
def test_an_idle_connections_window_is_halved_for_each_time_out(window_when):
    assert window_when(segments=40, idle_s=0.15) == 40 * 1448
    assert window_when(segments=40, idle_s=0.3) == 20 * 1448
    assert window_when(segments=40, idle_s=0.5) == INITIAL_WINDOW_BYTES
    assert window_when(segments=40, idle_s=4e6) == INITIAL_WINDOW_BYTES
    assert window_when(segments=4, idle_s=9.0) == 4 * 1448
    assert window_when(segments=40, idle_s=9.0, restarts_after_idle=False) == 40 * 1448


@needs_tcp_info
def test_a_connection_that_the_other_side_has_closed_is_as_none(window_when):
    assert window_when(state=8, segments=400) == INITIAL_WINDOW_BYTES


@needs_tcp_info
def test_a_connection_that_ends_nearby_shows_no_slow_start(window_when):
    assert window_when(rtt_s=0.001, link_rtt_s=0.1) == math.inf
    assert window_when(rtt_s=0.09, link_rtt_s=0.1) == 40 * 1448


@needs_tcp_info
def test_a_new_connection_has_the_initial_window(serve, connect):
    transport = connect(serve(answering).url)
    assert transport.window_bytes(0.05) == INITIAL_WINDOW_BYTES
    transport.exchange("GET", "v2", timeout_s=LONG_S)
    assert transport.window_bytes(0.0) > 1000  # of a real connection, on loopback
    assert transport.window_bytes(10.0) == math.inf
    transport.close()
    assert transport.window_bytes(10.0) == math.inf  # the next will end at the same relay
    assert transport.window_bytes(0.0) == INITIAL_WINDOW_BYTES


def test_a_system_that_tells_nothing_holds_nothing_back(connect, monkeypatch):
    monkeypatch.setattr("isthmus.runtime.transport._TCP_INFO_LEVEL", None)
    assert connect("http://127.0.0.1:9").window_bytes(0.1) == math.inf


@needs_tcp_info
@pytest.mark.parametrize(
    ("control", "sysctl", "expected"),
    [(b"cubic", b"1\n", True), (b"cubic", b"0\n", False), (b"bbr", b"1\n", False)],
)
def test_only_some_connections_start_anew_after_idleness(
    control, sysctl, expected, tmp_path, monkeypatch, serve, connect
):
    (tmp_path / "sysctl").write_bytes(sysctl)
    monkeypatch.setattr("isthmus.runtime.transport._SLOW_START_AFTER_IDLE", tmp_path / "sysctl")
    monkeypatch.setattr(
        "isthmus.runtime.transport._Wire.getsockopt",
        lambda *_: control.ljust(16, b"\0"),
        raising=False,
    )
    transport = connect(serve(answering).url)
    transport.exchange("GET", "v2", timeout_s=LONG_S)
    assert transport._connection.sock.restarts_after_idle is expected

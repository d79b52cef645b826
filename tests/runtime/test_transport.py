import contextlib
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from isthmus.errors import (
    BadReplyError,
    RemoteError,
    RemoteTimeoutError,
    ServerRefusedError,
    ServerUnreachableError,
)
from isthmus.runtime.transport import HttpTransport

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LONG_S = 60.0  # never reached: what needs it fails
SHORT_S = 0.15


def always(*replies):
    """Answer the requests of a connection one after the other, then close it."""

    def script(server, connection):
        for reply in replies:
            if not server.read_request(connection):
                return
            connection.sendall(reply)

    return script


def forever(reply):
    def script(server, connection):
        while server.read_request(connection):
            connection.sendall(reply)

    return script


def reset(connection):
    """Close so that the other side sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_an_exchange_reports_what_came_back(serve, connect):
    reply = b"HTTP/1.1 200 OK\r\nServer-Timing: total;dur=1\r\nContent-Length: 5\r\n\r\nhello"
    exchange = connect(serve(forever(reply)).url).exchange("GET", "v2", timeout_s=LONG_S)
    assert exchange.body == b"hello"
    assert exchange.received_bytes == 5
    assert exchange.headers["server-timing"] == "total;dur=1"
    assert exchange.connect_s > 0
    assert exchange.elapsed_s > 0


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_sent_bytes_are_exactly_those_on_the_wire(serve, connect, size):
    server = serve(forever(OK))
    transport = connect(server.url + "/prefix/")
    for _ in range(2):
        before = len(server.received[0]) if server.received else 0
        exchange = transport.exchange(
            "POST", "/v2/x", headers={"X-Name": "value"}, body=bytes(size), timeout_s=LONG_S
        )
        assert exchange.sent_bytes == len(server.received[0]) - before
        assert exchange.sent_bytes > size
    assert server.received[0].startswith(b"POST /prefix/v2/x HTTP/1.1\r\n")


def test_the_connection_is_reused(serve, connect):
    server = serve(forever(OK))
    transport = connect(server.url)
    assert not transport.is_connected
    assert not transport.was_connected
    first = transport.exchange("GET", "a", timeout_s=LONG_S)
    assert transport.is_connected
    assert transport.was_connected
    second = transport.exchange("GET", "b", timeout_s=LONG_S)
    assert (first.connect_s > 0, second.connect_s) == (True, 0.0)
    assert len(server.received) == 1


def test_a_chunked_reply_is_read_whole_and_the_connection_kept(serve, connect):
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4;extension=1\r\ndefg\r\n0\r\n\r\n"
    )
    server = serve(forever(chunked))
    transport = connect(server.url)
    for _ in range(2):
        assert transport.exchange("GET", "a", timeout_s=LONG_S).body == b"abcdefg"
    assert len(server.received) == 1


def test_a_reply_without_length_ends_with_the_connection(serve, connect):
    transport = connect(serve(always(b"HTTP/1.0 200 OK\r\n\r\nhello")).url)
    for _ in range(2):
        assert transport.exchange("GET", "a", timeout_s=LONG_S).body == b"hello"


def test_a_connection_closed_while_idle_is_noticed_and_replaced(serve, connect):
    server = serve(always(OK))
    transport = connect(server.url)
    transport.exchange("GET", "a", timeout_s=LONG_S)
    assert server.answered.wait(LONG_S)  # the server has closed its end
    wait_until(lambda: not transport.is_connected)
    assert transport.exchange("GET", "b", timeout_s=LONG_S).body == b"hello"
    assert len(server.received) == 2


def test_a_reply_that_asks_to_close_is_obeyed(serve, connect):
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
    transport = connect(serve(always(closing)).url)
    assert transport.exchange("GET", "a", timeout_s=LONG_S).body == b"hello"
    assert not transport.is_connected
    assert transport.exchange("GET", "b", timeout_s=LONG_S).body == b"hello"


def test_what_arrives_unasked_ends_the_connection(serve, connect):
    is_idle = threading.Event()

    def tired(server, connection):
        always(OK)(server, connection)
        is_idle.wait(LONG_S)
        connection.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        server.done.wait(LONG_S)

    transport = connect(serve(tired).url)
    transport.exchange("GET", "a", timeout_s=LONG_S)
    assert transport.is_connected
    assert transport.was_connected
    is_idle.set()
    wait_until(lambda: not transport.is_connected)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 500, 503, 599])
def test_an_error_status_is_a_refusal_with_the_servers_words(serve, connect, status):
    reply = f"HTTP/1.1 {status} Sorry\r\nContent-Length: 7\r\n\r\nno such".encode()
    transport = connect(serve(forever(reply)).url)
    with pytest.raises(ServerRefusedError, match="no such") as caught:
        transport.exchange("GET", "a", timeout_s=LONG_S)
    assert caught.value.status == status
    assert transport.is_connected  # a refusal does not cost the connection


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "no model x"}', "server answered 404: no model x"),
        (b'{"error": 5}', 'server answered 404: {"error": 5}'),
        (b"<html>", "server answered 404: <html>"),
        (b"\xff", "server answered 404: \ufffd"),
        (b"[" * 100_000, "server answered 404: " + "[" * 500),
    ],
)
def test_an_errors_text_is_what_its_json_says(serve, connect, body, text):
    head = f"HTTP/1.1 404 Nowhere\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with pytest.raises(ServerRefusedError) as caught:
        connect(serve(forever(head + body)).url).exchange("GET", "a", timeout_s=LONG_S)
    assert str(caught.value) == text


def hasty(reply):
    """Answer after the first bytes of a request, and read no more of it."""

    def script(_server, connection):
        connection.recv(1000)
        connection.sendall(reply)

    return script


def test_a_refusal_that_comes_before_all_is_sent_is_heard(serve, connect):
    refusal = b'HTTP/1.1 503 Busy\r\nContent-Length: 17\r\n\r\n{"error": "full"}'
    transport = connect(serve(hasty(refusal)).url)
    with pytest.raises(ServerRefusedError, match="503: full"):
        transport.exchange("POST", "a", body=bytes(1 << 25), timeout_s=LONG_S)
    assert not transport.is_connected


def test_an_answer_to_half_a_request_is_none(serve, connect):
    transport = connect(serve(hasty(OK)).url)
    with pytest.raises(ServerUnreachableError):
        transport.exchange("POST", "a", body=bytes(1 << 25), timeout_s=LONG_S)
    assert not transport.is_connected


def test_an_error_without_a_body_says_the_reason(serve, connect):
    transport = connect(serve(forever(b"HTTP/1.1 404 Nowhere\r\nContent-Length: 0\r\n\r\n")).url)
    with pytest.raises(ServerRefusedError, match="404: Nowhere"):
        transport.exchange("GET", "a", timeout_s=LONG_S)


def test_a_port_that_nobody_listens_on_is_unreachable(connect):
    with socket.socket() as deaf:  # it keeps its port, and listens to nobody
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        with pytest.raises(ServerUnreachableError, match=str(port)):
            connect(f"http://127.0.0.1:{port}").exchange("GET", "a", timeout_s=LONG_S)


def test_a_name_that_nobody_knows_is_unreachable(connect, monkeypatch):
    def unknown(*_args, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ServerUnreachableError, match="not known"):
        connect("http://no-such-host.invalid").exchange("GET", "a", timeout_s=LONG_S)


def test_the_next_address_of_a_host_is_tried(serve, connect, monkeypatch):
    server = serve(forever(OK))
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        places = (deaf.getsockname(), server.listener.getsockname())
        entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", at) for at in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: entries)
        assert connect("http://edge:8000").exchange("GET", "a", timeout_s=LONG_S).body == b"hello"


def silent(server, connection):
    server.read_request(connection)
    server.done.wait(LONG_S)


def trickle(prefix):
    """Send a byte every few milliseconds, without end."""

    def script(server, connection):
        server.read_request(connection)
        connection.sendall(prefix)
        while not server.done.wait(0.005):
            connection.sendall(b"1")

    return script


def continuing(server, connection):
    server.read_request(connection)
    while not server.done.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


SLOW = {
    "silence": silent,
    "trickling status line": trickle(b"HTTP/1.1 200 "),
    "trickling header": trickle(b"HTTP/1.1 200 OK\r\nX: "),
    "trickling body": trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    "trickling body without length": trickle(b"HTTP/1.1 200 OK\r\n\r\n"),
    "trickling chunk": trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"),
    "trickling chunk size": trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "100 Continue without end": continuing,
    "half a body": lambda server, connection: (
        server.read_request(connection),
        connection.sendall(OK[:-2]),
        server.done.wait(LONG_S),
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_server_costs_the_time_out_and_not_more(serve, connect, name):
    transport = connect(serve(SLOW[name]).url)
    begun_at_s = time.perf_counter()
    with pytest.raises(RemoteTimeoutError, match=r"0\.15 s"):
        transport.exchange("POST", "a", body=b"x", timeout_s=SHORT_S)
    assert SHORT_S <= time.perf_counter() - begun_at_s < LONG_S  # without a limit: for ever
    assert not transport.is_connected


def test_a_server_that_reads_nothing_costs_the_time_out(serve, connect):
    transport = connect(serve(lambda server, _connection: server.done.wait(LONG_S)).url)
    with pytest.raises(RemoteTimeoutError):
        transport.exchange("POST", "a", body=bytes(50_000_000), timeout_s=SHORT_S)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_no_time_at_all_is_a_time_out(serve, connect, timeout_s):
    transport = connect(serve(forever(OK)).url)
    with pytest.raises(RemoteTimeoutError):
        transport.exchange("GET", "a", timeout_s=timeout_s)


def breaking(reply):
    def script(server, connection):
        server.read_request(connection)
        connection.sendall(reply)

    return script


def resetting(reply):
    def script(server, connection):
        server.read_request(connection)
        connection.sendall(reply)
        reset(connection)

    return script


BROKEN = {
    "closed at once": lambda _server, _connection: None,
    "reset at once": lambda _server, connection: reset(connection),
    "closed without a reply": breaking(b""),
    "reset without a reply": resetting(b""),
    "reset in mid-reply": resetting(OK[:-1]),
    "truncated body": breaking(OK[:-1]),
    "truncated chunk": breaking(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc"),
    "no last chunk": breaking(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_connection_that_breaks_is_unreachable(serve, connect, name):
    transport = connect(serve(BROKEN[name]).url)
    with pytest.raises(ServerUnreachableError):
        transport.exchange("POST", "a", body=b"x" * 1000, timeout_s=LONG_S)
    assert not transport.is_connected


GARBAGE = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "binary": bytes(range(256)),
    "status is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "status too small": b"HTTP/1.1 42 OK\r\n\r\n",
    "status too large": b"HTTP/1.1 2000 OK\r\n\r\n",
    "unknown version": b"HTTP/7.3 200 OK\r\n\r\n",
    "line too long": b"HTTP/1.1 200 " + b"x" * 100_000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    "redirect": b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_reply_is_a_bad_reply(serve, connect, name):
    transport = connect(serve(breaking(GARBAGE[name])).url)
    with pytest.raises(BadReplyError):
        transport.exchange("GET", "a", timeout_s=LONG_S)


ODD = {
    "chunk size is no number": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc",
    "negative chunk size": b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcdefgh\r\n0\r\n\r\n",
    "huge chunk size": b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 300 + b"\r\nabc",
    "endless chunk size": b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 100_000,
    "huge length": b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc",
    "negative length": b"Content-Length: -5\r\n\r\nabc",
    "length is no number": b"Content-Length: five\r\n\r\nabc",
    "very many digits": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 900\r\n\r\nabc",
    "header without colon": b"nonsense\r\n\r\nabc",
    "header that is no text": b"X: \xff\xfe\x00\r\n\r\nabc",
    "nothing after the status": b"",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("ending", [breaking, resetting])
def test_nothing_but_the_promised_errors_ever_escapes(serve, connect, name, ending):
    transport = connect(serve(ending(b"HTTP/1.1 200 OK\r\n" + ODD[name])).url)
    with contextlib.suppress(RemoteError):
        assert isinstance(transport.exchange("GET", "a", timeout_s=LONG_S).body, bytes)


def test_the_transport_works_again_after_every_kind_of_failure(serve, connect):
    scripts = iter([*BROKEN.values(), *map(breaking, GARBAGE.values()), forever(OK)])
    transport = connect(serve(lambda *arguments: next(scripts)(*arguments)).url)
    for _ in range(len(BROKEN) + len(GARBAGE)):
        with pytest.raises(RemoteError):
            transport.exchange("GET", "a", timeout_s=LONG_S)
    assert transport.exchange("GET", "a", timeout_s=LONG_S).body == b"hello"


def test_an_interrupted_exchange_leaves_no_half_a_connection(serve, connect, monkeypatch):
    transport = connect(serve(forever(OK)).url)
    transport.exchange("GET", "a", timeout_s=LONG_S)
    with monkeypatch.context() as patch:
        patch.setattr(transport._connection, "getresponse", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transport.exchange("GET", "a", timeout_s=LONG_S)
    assert transport.exchange("GET", "a", timeout_s=LONG_S).body == b"hello"


def interrupted():
    raise KeyboardInterrupt


def test_descriptors_beyond_a_thousand_do_not_matter(serve, connect):
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("the system allows too few open files")
    server = serve(forever(OK))
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(socket.socket())
        transport = connect(server.url)
        for _ in range(2):
            assert transport.exchange("GET", "a", timeout_s=LONG_S).body == b"hello"
        assert transport.is_connected
        transport.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "edge:8000",
        "edge",
        "https://edge:8000",
        "ftp://edge",
        "http://",
        "http://:8000",
        "http://edge:port",
        "http://edge:0",
        "http://edge:99999",
        "http://[::1",
        "http://a..b",
        "http://" + "a" * 64 + ".com",
        "http://edge/a b",
        "http://edge/\n",
        "http://ed\x00ge",
        "http://user:secret@edge",
        "http://edge?x=1",
        "http://edge/#x",
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(ValueError, match="server address"):
        HttpTransport(url)


def wait_until(is_true):
    """Wait for something that another thread or the kernel is about to do."""
    until_s = time.perf_counter() + LONG_S
    while not is_true():
        assert time.perf_counter() < until_s
        time.sleep(0.001)


def test_another_thread_may_break_off_an_exchange(serve, connect):
    server = serve(silent)
    transport = connect(server.url)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(transport.exchange, "GET", "a", timeout_s=LONG_S)
        wait_until(lambda: server.received)
        transport.abort()
        with pytest.raises(ServerUnreachableError):
            waiting.result(LONG_S)
    assert not transport.is_connected
    transport.abort()  # nothing is under way: nothing happens


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse instead of dropping")
def test_another_thread_may_break_off_connecting(connect):
    """A server that is gone without a word: its system answers no more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(2):  # its queue is full, and what more comes is dropped
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        transport = connect("http://{}:{}".format(*full.getsockname()))
        with ThreadPoolExecutor(1) as pool:
            connecting = pool.submit(transport.exchange, "GET", "a", timeout_s=LONG_S)
            wait_until(lambda: transport._connection.connecting is not None)
            wait_until(lambda: transport.abort() or connecting.done())
            with pytest.raises(ServerUnreachableError):
                connecting.result()
            assert not transport.was_connected

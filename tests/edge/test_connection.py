"""Clients that keep the server waiting, come in crowds, or break off: against a real server."""

import contextlib
import http.client
import json
import socket
from pathlib import Path

import numpy as np
import pytest

from isthmus.runtime.codecs import CODECS
from isthmus.runtime.protocol import InferRequest, WireTensor, pack_request

LONG_S = 100.0
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: e\r\n\r\n"
INFER = b"POST /v2/models/photo/infer HTTP/1.1\r\nHost: e\r\n"
BUDGET_MIB = 1.5
OPTIONS = ["--max-connections", "4", "--max-body-mib", "1", "--threads", "1"]
OPTIONS += ["--max-bodies-mib", str(BUDGET_MIB)]


@pytest.fixture(scope="module")
def strict(repository, serving):
    """Port of a server that waits briefly, takes four connections and holds 1.5 MiB."""
    with serving(repository.directory, "--client-timeout", "1s", *OPTIONS) as (process, port):
        yield port
        assert process.poll() is None


@pytest.fixture(scope="module")
def patient(repository, serving):
    """Port of such a server that waits for long, so that nobody need be in time."""
    with serving(repository.directory, "--client-timeout", "100s", *OPTIONS) as (process, port):
        yield port
        assert process.poll() is None


def opened(port):
    return socket.create_connection(("127.0.0.1", port), timeout=LONG_S)


def reply(client):
    """Return status and content of the next answer."""
    answer = http.client.HTTPResponse(client)
    answer.begin()
    return answer.status, answer.read()


def is_closed(client):
    """Wait until the server has ended the connection."""
    try:
        while client.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(
    "sent",
    [b"", LIVE[:20], LIVE + LIVE[:20], b"GET /nowhere HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"],
    ids=["nothing", "half a head", "half a second head", "half of what is not wanted"],
)
def test_who_keeps_it_waiting_is_cut_off(strict, sent):
    with opened(strict) as client:
        client.sendall(sent)
        assert is_closed(client)


def test_a_body_that_does_not_come_is_refused_by_name(strict):
    with opened(strict) as client:
        client.sendall(INFER + b"Content-Length: 500\r\n\r\nhalf")
        status, content = reply(client)
        assert status == 408
        assert "4 bytes of the body came" in json.loads(content)["error"]
        assert is_closed(client)


def test_work_is_no_waiting(strict):
    wanted = json.dumps({"repetitions": 1000, "budget_s": 1.3})
    client = http.client.HTTPConnection("127.0.0.1", strict, timeout=LONG_S)
    client.request("POST", "/v2/isthmus/models/photo.image/measure", wanted)
    answer = client.getresponse()
    assert answer.status == 200
    answer.read()
    client.close()


def test_unfinished_bodies_are_bounded_together(patient):
    """Each is within its own limit, and together they go beyond: one is refused, with words."""
    head = INFER + b"Transfer-Encoding: chunked\r\n\r\n"
    part = b"x" * 65_536
    chunk = b"%x\r\n%s\r\n" % (len(part), part)
    clients = [opened(patient) for _ in range(2)]
    try:
        for client in clients:
            client.sendall(head)
        for _ in range(15):
            for client in clients:
                with contextlib.suppress(OSError):  # one is refused while it still sends
                    client.sendall(chunk)
        for client in clients:
            with contextlib.suppress(OSError):
                client.sendall(b"0\r\n\r\n")
        answers = [reply(client) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert sorted(status for status, _ in answers) == [400, 503], "nonsense, and one too many"
    said = next(content for status, content in answers if status == 503)
    assert "bytes, of at most 1572864: try again later" in json.loads(said)["error"]
    with opened(patient) as client:
        client.sendall(LIVE)
        assert reply(client)[0] == 200


def test_one_more_connection_takes_the_place_of_the_one_idle_for_longest(patient):
    clients = [opened(patient) for _ in range(4)]
    try:
        for client in clients:
            client.sendall(LIVE)
            assert reply(client)[0] == 200
        clients.append(opened(patient))
        clients[-1].sendall(LIVE)
        assert reply(clients[-1])[0] == 200
        assert is_closed(clients[0])
        clients[1].sendall(LIVE)
        assert reply(clients[1])[0] == 200
    finally:
        for client in clients:
            client.close()


def test_where_all_connections_are_at_work_one_more_is_refused_by_name(serving, repository):
    with serving(repository.directory, "--max-connections", "2") as (_, port):
        clients = [opened(port) for _ in range(2)]
        for client in clients:
            client.sendall(INFER + b"Content-Length: 500\r\n\r\nhalf")
        with opened(port) as more:
            status, content = reply(more)
        assert status == 503
        assert "2 connections are open already" in json.loads(content)["error"]
        for client in clients:
            client.close()


def test_pipelined_requests_are_answered_in_order(strict):
    array = np.zeros((1, 3, 12, 12), np.float32)
    headers, body = pack_request(
        InferRequest((WireTensor("image_in", CODECS["raw"].encode(array)),), id="first")
    )
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    infer = INFER + f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with opened(strict) as client:
        client.sendall(infer + LIVE + b"GET /nowhere HTTP/1.1\r\nHost: e\r\n\r\n" + LIVE)
        stream = client.makefile("rb")
        found = []
        for _ in range(4):
            status = int(stream.readline().split()[1])
            lines = dict(line.split(b": ") for line in iter(stream.readline, b"\r\n"))
            found.append(status)
            stream.read(int({k.lower(): v for k, v in lines.items()}[b"content-length"]))
        stream.close()
    assert found == [200, 200, 404, 200]


def test_nonsense_behind_a_refusal_ends_the_connection_quietly(serving, repository):
    with serving(repository.directory) as (process, port):
        with opened(port) as client:
            client.sendall(
                b"POST /nowhere HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            assert reply(client)[0] == 404
            client.sendall(b"no length\r\n")
            assert is_closed(client)
        assert process.poll() is None


def test_a_client_that_does_not_read_is_cut_off_with_what_it_left(strict):
    """Answers pile up in the server until the client's window and the sockets' buffers are full."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(LONG_S)
        client.connect(("127.0.0.1", strict))
        with pytest.raises(ConnectionError):
            client.sendall(b"GET /v2 HTTP/1.1\r\nHost: e\r\n\r\n" * 200_000)


def test_too_few_files_for_its_connections_do_not_end_or_busy_it(serving, repository):
    """The limit is lowered behind its back, below what it has counted on."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("the limit of another process cannot be changed here")
    with serving(repository.directory, "--max-connections", "100") as (process, port):
        few = len(list(Path(f"/proc/{process.pid}/fd").iterdir())) + 2
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (few, hard))
        clients = [opened(port) for _ in range(6)]
        clients[0].sendall(LIVE)
        assert reply(clients[0])[0] == 200
        clients[-1].sendall(LIVE)  # waits in the system until there is room
        for client in clients[:-1]:
            client.close()
        assert reply(clients[-1])[0] == 200
        clients[-1].close()

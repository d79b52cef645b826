"""The server as users run it: a process of its own, asked over loopback."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import tritonclient.http as triton

from isthmus.edge import server as server_module
from isthmus.edge.server import serve
from isthmus.edge.settings import Settings
from isthmus.errors import AddressError, ModelError, RepositoryError
from isthmus.loading.onnx_file import load_graph, read_model
from isthmus.loading.split import split_model
from isthmus.runtime.codecs import CODECS
from isthmus.runtime.protocol import InferRequest, WireTensor, pack_request, unpack_reply
from isthmus.runtime.session import Session

SOME_INPUT = np.random.default_rng(3).normal(size=(1, 3, 12, 12)).astype(np.float32)
INFER = "/v2/models/photo/infer"
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: edge\r\n".encode()


@pytest.fixture(scope="module")
def expected(repository):
    with Session(repository.photo) as session:
        return session.run({"image_in": SOME_INPUT})["scores"]


@pytest.fixture
def triton_client(server_port):
    with triton.InferenceServerClient(f"127.0.0.1:{server_port}") as client:
        yield client


def a_request(array=SOME_INPUT):
    return pack_request(InferRequest((WireTensor("image_in", CODECS["raw"].encode(array)),)))


def exchange(port, method="POST", path=INFER, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()
    finally:
        connection.close()


def scores(reply):
    status, headers, body = reply
    assert status == 200, body
    payload = unpack_reply(headers, body).outputs[0].payload
    return np.frombuffer(payload.data, np.float32).reshape(payload.shape)


def is_close(found, wanted):
    return np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_triton_reads_the_metadata(triton_client):
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("photo")
    assert triton_client.is_model_ready("photo", "3")
    assert not triton_client.is_model_ready("nobody")
    assert "binary_tensor_data" in triton_client.get_server_metadata()["extensions"]
    metadata = triton_client.get_model_metadata("photo")
    assert metadata["inputs"] == [{"name": "image_in", "datatype": "FP32", "shape": [1, 3, 12, 12]}]
    index = triton_client.get_model_repository_index()
    assert {"photo", "photo.image", "plain"} <= {entry["name"] for entry in index}
    with pytest.raises(triton.InferenceServerException, match="there is no model 'nobody'"):
        triton_client.get_model_metadata("nobody")


def triton_infer(client, model, name, array, *, binary):
    tensor = triton.InferInput(name, list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    wanted = [triton.InferRequestedOutput("scores", binary_data=binary)]
    return client.infer(model, [tensor], outputs=wanted).as_numpy("scores")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_triton_gets_the_networks_answer(triton_client, expected, binary):
    found = triton_infer(triton_client, "photo", "image_in", SOME_INPUT, binary=binary)
    assert is_close(found, expected)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_triton_gets_the_same_answer_from_head_and_tail(
    triton_client, server_port, repository, expected, binary
):
    cut = {"tensors": ["mid"], "graph_sha256": repository.photo_sha256}
    path = "/v2/isthmus/models/photo/cuts"
    status, _, body = exchange(server_port, path=path, body=json.dumps(cut))
    assert status == 200
    split = split_model(read_model(repository.photo), load_graph(repository.photo), ["mid"])
    with Session(split.head.SerializeToString()) as head:
        mid = head.run({"image_in": SOME_INPUT})["mid"]
    found = triton_infer(triton_client, json.loads(body)["model"], "mid", mid, binary=binary)
    assert is_close(found, expected)
    wrong = json.dumps({**cut, "graph_sha256": repository.plain_sha256})
    assert exchange(server_port, path=path, body=wrong)[0] == 409


def test_many_clients_at_once_get_their_own_answers(server_port, repository):
    inputs = [SOME_INPUT * factor for factor in range(1, 25)]
    with Session(repository.photo) as session:
        wanted = [session.run({"image_in": array})["scores"] for array in inputs]

    def ask(array):
        headers, body = a_request(array)
        return scores(exchange(server_port, body=body, headers=headers))

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        found = list(clients.map(ask, inputs))
    assert all(is_close(*pair) for pair in zip(found, wanted, strict=True))


def test_large_bodies_are_refused_and_the_server_lives_on(server_port, expected):
    status, _, body = exchange(server_port, body=b"", headers={"Content-Length": str(10**12)})
    assert status == 413
    assert "larger than" in json.loads(body)["error"]
    chunks = (b"x" * 100_000 for _ in range(10**9))
    with pytest.raises((ConnectionError, AssertionError)):
        # The server answers and closes while the client still sends.
        assert exchange(server_port, body=chunks, headers={"Transfer-Encoding": "chunked"})[0] == 0
    headers, body = a_request()
    assert is_close(scores(exchange(server_port, body=body, headers=headers)), expected)


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"Content-Length: 500\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nab",
        HEAD[:20],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
    ],
    ids=["mid-body", "mid-chunk", "mid-line", "tls", "nothing"],
)
def test_a_client_that_goes_away_harms_nobody(server_port, expected, start):
    with socket.create_connection(("127.0.0.1", server_port)) as client:
        client.sendall(start)
    headers, body = a_request()
    assert is_close(scores(exchange(server_port, body=body, headers=headers)), expected)


@pytest.mark.parametrize("length", ["-5", "ten", "1" * 30, "5, 6"])
def test_absurd_lengths_are_refused(server_port, length):
    with socket.create_connection(("127.0.0.1", server_port), timeout=30) as client:
        client.sendall(HEAD + f"Content-Length: {length}\r\n\r\n".encode())
        assert client.recv(1000).split()[1] in (b"400", b"413")


def test_an_absurd_header_is_refused(server_port):
    with socket.create_connection(("127.0.0.1", server_port), timeout=30) as client:
        with contextlib.suppress(ConnectionError):  # it hangs up before all of it was sent
            client.sendall(b"GET /v2 HTTP/1.1\r\nHost: e\r\nX: " + b"x" * 500_000)
        assert client.recv(1000).split()[1] == b"400"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_with_connections_open(serving, repository, number):
    with serving(repository.directory) as (process, port):
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        idle.request("GET", "/v2/health/ready")
        assert idle.getresponse().read() == b'{"ready":true}'
        process.send_signal(number)
        assert process.wait(timeout=120) == 0
        idle.close()


def test_a_running_request_is_finished_before_it_ends(serving, repository):
    with serving(repository.directory) as (process, port):
        wanted = json.dumps({"repetitions": 1000, "budget_s": 1.0}).encode()
        slow = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        slow.request("POST", "/v2/isthmus/models/photo.image/measure", wanted)
        while json.loads(exchange(port, "GET", "/v2/isthmus/status")[2])["load_ratio"] == 0:
            pass
        process.send_signal(signal.SIGTERM)
        reply = slow.getresponse()
        assert reply.status == 200
        assert json.loads(reply.read())["samples_s"]
        slow.close()
        assert process.wait(timeout=120) == 0


def test_a_request_whose_client_is_gone_is_not_worked_on(serving, repository):
    """One holds the worker; the other's client goes away while it waits for its turn."""
    with serving(repository.directory, "--threads", "1") as (_, port):

        def status():
            return json.loads(exchange(port, "GET", "/v2/isthmus/status")[2])

        wanted = json.dumps({"repetitions": 1000, "budget_s": 60}).encode()
        measuring = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(2)]
        for client in measuring:
            client.request("POST", "/v2/isthmus/models/photo.image/measure", wanted)
        while status()["queue_length"] < 2:
            pass
        for client in measuring:
            client.close()
        while status()["queue_length"] > 0:
            pass


def test_a_signal_while_loading_ends_it_before_it_is_ready(repository):
    class Impatient:
        def begin(self, task, steps):
            os.kill(os.getpid(), signal.SIGTERM)

        def advance(self, detail=""):
            pass

    told = []
    settings = Settings(models_dir=repository.directory, port=0)
    serve(settings, progress=Impatient(), on_ready=lambda *ready: told.append(ready))
    assert not told
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_request_that_never_comes_whole_does_not_hold_it_up_for_ever(
    repository, monkeypatch, caplog
):
    monkeypatch.setattr(server_module, "_FINISH_S", 0.2)
    clients = []

    def start_and_stop(address, models):
        port = int(address.rpartition(":")[2])
        clients.append(socket.create_connection(("127.0.0.1", port)))
        clients[0].sendall(HEAD + b"Content-Length: 500\r\n\r\nhalf")
        # A second exchange is answered after the first has arrived.
        threading.Thread(target=ask_and_stop, args=(port,)).start()

    def ask_and_stop(port):
        exchange(port, "GET", "/v2/health/live")
        os.kill(os.getpid(), signal.SIGTERM)

    serve(Settings(models_dir=repository.directory, port=0), on_ready=start_and_stop)
    clients[0].close()
    assert "Traceback" not in caplog.text


def run_to_its_end(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from isthmus.cli.main import main; main()", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_what_cannot_be_served_ends_with_one_line(server_port, repository, tmp_path):
    taken = run_to_its_end(str(repository.directory), "--port", str(server_port))
    assert taken.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server_port}" in taken.stderr
    assert "Traceback" not in taken.stderr
    missing = run_to_its_end(str(tmp_path / "nowhere"))
    assert missing.returncode == 1
    assert "nowhere" in missing.stderr
    assert missing.stderr.startswith("error: ")


def test_errors_before_the_start_have_names(repository, tmp_path, server_port):
    with pytest.raises(RepositoryError):
        serve(Settings(models_dir=tmp_path / "nowhere", port=0))
    with pytest.raises(AddressError, match="in use"):
        serve(Settings(models_dir=repository.directory, port=server_port))
    with pytest.raises(AddressError, match="cannot listen on"):
        serve(Settings(models_dir=repository.directory, host="host.invalid", port=0))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_replies_are_not_held_back(host):
    """Asyncio sets TCP_NODELAY only where the socket says that it is TCP."""
    with server_module._listen(host, 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
        assert str(listening.getsockname()[1]) in server_module._address(listening)


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    told = []
    with pytest.raises(ModelError, match="broken"):
        serve(Settings(models_dir=tmp_path, port=0), on_ready=lambda *ready: told.append(ready))
    assert not told


def test_settings_come_from_arguments_before_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("ISTHMUS_PORT", "9000")
    monkeypatch.setenv("ISTHMUS_MAX_BODY_MIB", "0.5")
    assert Settings(models_dir=tmp_path).port == 9000
    settings = Settings(models_dir=tmp_path, port=0)
    assert (settings.host, settings.port) == ("127.0.0.1", 0)
    assert settings.max_body_bytes == 1 << 19
    assert settings.max_bodies_bytes == 1 << 28
    with pytest.raises(ValueError, match="at least max_body_mib"):
        Settings(models_dir=tmp_path, max_body_mib=300)
    assert settings.threads >= 1
    with pytest.raises(ValueError, match="port"):
        Settings(models_dir=tmp_path, port=70_000)

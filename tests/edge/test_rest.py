import asyncio
import tracemalloc
from dataclasses import replace

import httpx
import numpy as np
import pytest
import zstandard

from isthmus.edge.bodies import Bodies
from isthmus.edge.data_plane import DataPlane
from isthmus.edge.residency import Residency
from isthmus.edge.rest import application
from isthmus.edge.worker import Worker
from isthmus.errors import BusyError
from isthmus.runtime import codecs
from isthmus.runtime.image_codecs import IMAGE_CODECS
from isthmus.runtime.protocol import (
    InferRequest,
    WireTensor,
    bytes_payload,
    pack_request,
    parse_server_timing,
    unpack_reply,
)
from isthmus.runtime.session import Session

SOME_INPUT = np.random.default_rng(3).normal(size=(1, 3, 12, 12)).astype(np.float32)
LIMIT = 100_000


class Client:
    """Asks the application in memory, one request after the other."""

    def __init__(self, app):
        self._app = app

    def request(self, method, path, **content):
        async def ask():
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
                return await client.request(method, path, **content)

        return asyncio.run(ask())

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, **content):
        return self.request("POST", path, **content)


def an_application(residency):
    plane = DataPlane(residency, version="9.9")
    workers = [Worker(f"test-{name}", longest_queue=8) for name in ("infer", "load")]
    bodies = Bodies(limit_bytes=3 * LIMIT, timeout_s=10)
    return application(plane, *workers, bodies, max_body_bytes=LIMIT), plane, workers


@pytest.fixture(scope="module")
def served(repository):
    residency = Residency(repository.directory, threads=1)
    residency.load_all()
    app, plane, workers = an_application(residency)
    yield Client(app), plane
    for worker in workers:
        worker.close()


@pytest.fixture
def client(served):
    return served[0]


def a_request(array=SOME_INPUT):
    return pack_request(InferRequest((WireTensor("image_in", codecs.CODECS["raw"].encode(array)),)))


def infer(client, name="photo", message=None):
    headers, body = message or a_request()
    return client.post(f"/v2/models/{name}/infer", content=body, headers=headers)


def scores(reply):
    assert reply.status_code == 200, reply.text
    message = unpack_reply(reply.headers, reply.content)
    return codecs.decode(message.outputs[0].payload, limit_bytes=1 << 20)


def test_a_binary_request_has_a_binary_reply_and_timings(client, repository):
    reply = infer(client)
    with Session(repository.photo) as session:
        assert np.array_equal(scores(reply), session.run({"image_in": SOME_INPUT})["scores"])
    assert reply.headers["content-type"] == "application/octet-stream"
    spent_s = parse_server_timing(reply.headers["server-timing"])
    assert list(spent_s) == ["queue", "decode", "infer", "total"]
    assert spent_s["total"] >= spent_s["queue"] + spent_s["decode"] + spent_s["infer"] - 1e-6
    assert unpack_reply(reply.headers, reply.content).parameters["cache"] == "hit"


@pytest.mark.parametrize("path", ["photo", "photo/versions/3"])
def test_a_json_request_has_a_json_reply(client, path):
    tensor = {
        "name": "image_in",
        "shape": [1, 3, 12, 12],
        "datatype": "FP32",
        "data": SOME_INPUT.tolist(),
    }
    reply = client.post(f"/v2/models/{path}/infer", json={"inputs": [tensor]})
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["outputs"][0]["name"] == "scores"
    assert np.array_equal(scores(reply), scores(infer(client)))


def test_a_photograph(client):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    payload = bytes_payload(IMAGE_CODECS["jpeg-85"].encode(pixels))
    reply = infer(
        client, "photo.image", pack_request(InferRequest((WireTensor("image", payload),)))
    )
    assert scores(reply).shape == (1, 5)


def test_health_and_metadata(client):
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2").json()["name"] == "isthmus"
    for path in ("photo", "photo/versions/3", "photo.image"):
        assert client.get(f"/v2/models/{path}").json()["versions"] == ["3"]
        assert client.get(f"/v2/models/{path}/ready").status_code == 200
    index = client.post("/v2/repository/index").json()
    assert {"name": "photo", "version": "3", "state": "READY", "reason": ""} in index


def test_a_server_that_loads_is_alive_but_not_ready(repository):
    app, _, _ = an_application(Residency(repository.directory, threads=1))
    client = Client(app)
    assert client.get("/v2/health/live").status_code == 200
    for reply in (client.get("/v2/health/ready"), infer(client)):
        assert reply.status_code == 503
        assert "loaded" in reply.json()["error"]


def test_cuts_are_made_once_and_conflicts_are_refused(client, repository):
    cut = {"tensors": ["mid"], "graph_sha256": repository.photo_sha256}
    first, again = (client.post("/v2/isthmus/models/photo/cuts", json=cut) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    tail = first.json()["model"]
    assert client.get(f"/v2/models/{tail}/ready").status_code == 200
    assert tail in client.get("/v2/isthmus/status").json()["models"]

    def status(model="photo", **changes):
        reply = client.post(f"/v2/isthmus/models/{model}/cuts", json={**cut, **changes})
        assert reply.json()["error"]
        return reply.status_code

    assert status(graph_sha256="0" * 64) == 409
    assert status(model="nobody") == 404
    assert status(tensors=["nothing"]) == 400
    assert status(tensors="mid") == 400


@pytest.mark.parametrize("name", ["photo", "photo.image"])
def test_measuring(client, name):
    wanted = {"repetitions": 3, "budget_s": 30}
    reply = client.post(f"/v2/isthmus/models/{name}/measure", json=wanted).json()
    assert reply.keys() == {"samples_s", "load_s", "resident_bytes"}
    assert len(reply["samples_s"]) == 3
    assert all(sample_s > 0 for sample_s in reply["samples_s"])
    hurried = client.post(
        f"/v2/isthmus/models/{name}/measure", json={"repetitions": 1000, "budget_s": 1e-9}
    )
    assert len(hurried.json()["samples_s"]) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"repetitions": 0, "budget_s": 1},
        {"repetitions": 1001, "budget_s": 1},
        {"repetitions": 1, "budget_s": 61},
        {"repetitions": True, "budget_s": 1},
        {"repetitions": 1, "budget_s": -1},
        {"repetitions": "1", "budget_s": 1},
        {"repetitions": 10**400, "budget_s": 1},
    ],
)
def test_measuring_within_bounds_only(client, wanted):
    reply = client.post("/v2/isthmus/models/photo/measure", json=wanted)
    assert reply.status_code == 400
    assert "must be a number above 0" in reply.json()["error"]


def test_status(client):
    status = client.get("/v2/isthmus/status").json()
    assert status["models"]["photo"] == {"is_warm": True, "load_s": 0.0}
    assert status["queue_length"] == 0
    assert 0 <= status["load_ratio"] <= 1


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", 404),
        ("GET", "/v3", 404),
        ("GET", "/v2/", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("GET", "/v2/models/photo/versions/9", 404),
        ("GET", "/v2/models/photo/versions/3/else", 404),
        ("GET", "/v2/models/photo/infer", 405),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2/models/photo", 405),
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", "/v2/models/photo/infer", 400),
        ("POST", "/v2/isthmus/models/photo/cuts", 400),
        ("POST", "/v2/isthmus/models/photo/measure", 400),
    ],
)
def test_refusals_are_json(client, method, path, expected):
    reply = client.request(method, path)
    assert reply.status_code == expected
    assert reply.json().keys() == {"error"}
    assert reply.json()["error"]


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_malformed_json_is_refused(client, body):
    for path in ("isthmus/models/photo/cuts", "isthmus/models/photo/measure", "models/photo/infer"):
        assert client.post(f"/v2/{path}", content=body).status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("models/photo/infer", '{"inputs": [{"name": "a", "datatype": "FP32", "shape": "HALF"}]}'),
        ("isthmus/models/photo/cuts", '{"tensors": ["HALF"], "graph_sha256": "DIGEST"}'),
        ("isthmus/models/photo/cuts", '{"tensors": ["mid"], "graph_sha256": "HALF"}'),
    ],
)
def test_half_a_surrogate_pair_is_the_clients_error(client, repository, path, body):
    body = body.replace("HALF", "\\ud800").replace("DIGEST", repository.photo_sha256)
    reply = client.post(f"/v2/{path}", content=body.encode())
    assert reply.status_code in (400, 409)
    assert "ud800" in reply.json()["error"] or "\ud800" in reply.json()["error"]


def test_damaged_tensors_are_refused(client):
    headers, body = a_request()
    assert infer(client, message=(headers, body[:-1])).status_code == 400
    assert infer(client, message=(headers, body + b"x")).status_code == 400
    wrong = {**headers, "Inference-Header-Content-Length": "-1"}
    assert infer(client, message=(wrong, body)).status_code == 400
    assert scores(infer(client)).shape == (1, 5)


def test_a_body_that_declares_too_much_is_not_read(client):
    for declared in (LIMIT + 1, 10**19, "-5", "ten"):
        reply = client.post(
            "/v2/models/photo/infer", content=b"x", headers={"Content-Length": str(declared)}
        )
        assert reply.status_code == 413
        assert reply.headers["connection"] == "close"
        assert "larger than 100000 bytes" in reply.json()["error"]


def test_a_body_in_chunks_is_counted(client):
    sent = []

    async def chunks(count):
        for _ in range(count):
            sent.append(1)
            yield b"x" * 10_000

    path = "/v2/models/photo/infer"
    assert client.post(path, content=chunks(50)).status_code == 413
    assert len(sent) == 11
    assert client.post(path, content=chunks(9)).status_code == 400


def test_a_compressed_body_is_refused(client):
    reply = client.post(
        "/v2/models/photo/infer", content=b"x", headers={"Content-Encoding": "gzip"}
    )
    assert reply.status_code == 415


def test_an_internal_error_is_json_and_the_server_lives_on(served, monkeypatch, caplog):
    client, plane = served
    with monkeypatch.context() as broken:
        broken.setattr(plane, "infer", lambda *_: 1 / 0)
        reply = infer(client)
    assert reply.status_code == 500
    assert "ZeroDivisionError" in reply.json()["error"]
    assert "division by zero" in caplog.text
    assert scores(infer(client)).shape == (1, 5)


def test_a_full_queue_refuses_with_503(client, monkeypatch):
    async def full(self, job):
        raise BusyError("full")

    monkeypatch.setattr(Worker, "run", full)
    reply = infer(client)
    assert reply.status_code == 503
    assert reply.json() == {"error": "full"}


@pytest.mark.parametrize("codec", ["zstd", "fp16+zstd", "u8+zstd", "u8c+zstd"])
@pytest.mark.parametrize("tells_its_size", [True, False])
def test_a_zstd_bomb_is_the_clients_error_and_takes_no_memory(client, codec, tells_its_size):
    stream = zstandard.ZstdCompressor(level=1).compressobj(
        **({"size": 1 << 28} if tells_its_size else {})
    )
    bomb = stream.compress(bytes(1 << 28)) + stream.flush()
    payload = replace(codecs.CODECS[codec].encode(SOME_INPUT), data=bomb)
    tracemalloc.start()
    try:
        reply = infer(
            client, message=pack_request(InferRequest((WireTensor("image_in", payload),)))
        )
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 400 <= reply.status_code < 500
    assert "bytes" in reply.json()["error"]
    assert most_bytes < 1 << 24
    assert scores(infer(client)).shape == (1, 5)


def test_maps_that_do_not_fit_the_channels_are_named(client):
    good = codecs.CODECS["u8c"].encode(SOME_INPUT)
    for key in ("scale", "zero_point"):
        payload = replace(good, parameters={**good.parameters, key: [1.0, 2.0]})
        message = pack_request(InferRequest((WireTensor("image_in", payload),)))
        reply = infer(client, message=message)
        assert reply.status_code == 400
        assert f"{key} needs 3 numbers" in reply.json()["error"]


@pytest.mark.parametrize("codec", list(codecs.CODECS))
def test_every_codec_is_understood(client, codec):
    payload = codecs.CODECS[codec].encode(SOME_INPUT)
    message = pack_request(InferRequest((WireTensor("image_in", payload),)))
    assert scores(infer(client, message=message)) == pytest.approx(
        scores(infer(client)), rel=0.05, abs=0.05
    )

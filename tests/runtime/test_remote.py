import json
import math

import pytest

from isthmus.errors import BadReplyError, ServerRefusedError
from isthmus.runtime.remote import RemoteServer
from isthmus.runtime.transport import Exchange
from isthmus.types.plan import PlanRow

ROW = PlanRow("a model", "split", ("x", "y"), cut_id="0123", unit="a model.tail-0123")


class Transport:
    """Answers every request with the same bytes."""

    is_connected = True

    def __init__(self, reply):
        self.reply = reply
        self.requests = []

    def exchange(self, method, path, *, headers=None, body=b"", timeout_s):
        self.requests.append((method, path, dict(headers or {}), body))
        if isinstance(self.reply, Exception):
            raise self.reply
        return Exchange({}, self.reply, 100, len(self.reply), 0.0, 0.001)

    def close(self):
        pass


def test_metadata():
    transport = Transport(b'{"name": "isthmus", "version": "0.1.0"}')
    assert RemoteServer(transport).metadata()["name"] == "isthmus"
    assert transport.requests == [("GET", "v2", {}, b"")]


def test_ready():
    transport = Transport(b"")
    RemoteServer(transport).check_ready()
    assert transport.requests[0][:2] == ("GET", "v2/health/ready")


def test_a_tail_is_asked_for_by_its_tensors_and_the_networks_digest():
    transport = Transport(json.dumps({"model": ROW.unit}).encode())
    RemoteServer(transport).register_tail(ROW, "ab" * 32)
    ((method, path, headers, body),) = transport.requests
    assert (method, path) == ("POST", "v2/isthmus/models/a%20model/cuts")
    assert headers == {"Content-Type": "application/json"}
    assert json.loads(body) == {"tensors": ["x", "y"], "graph_sha256": "ab" * 32}


@pytest.mark.parametrize("reply", [b'{"model": "other"}', b"{}", b'{"model": null}'])
def test_a_tail_of_another_name_is_a_bad_reply(reply):
    with pytest.raises(BadReplyError, match="tail"):
        RemoteServer(Transport(reply)).register_tail(ROW, "ab" * 32)


@pytest.mark.parametrize(
    "reply", [b"", b"<html>", b"[]", b"null", b'"text"', b"\xff\xfe", b"{", b"[" * 100_000]
)
def test_a_reply_that_is_no_json_object_is_a_bad_reply(reply):
    with pytest.raises(BadReplyError, match="v2"):
        RemoteServer(Transport(reply)).metadata()


def test_a_refusal_is_passed_on():
    with pytest.raises(ServerRefusedError, match="another file"):
        RemoteServer(Transport(ServerRefusedError(409, "another file"))).register_tail(ROW, "")


@pytest.mark.parametrize(
    "figures",
    [
        {"samples_s": [math.nan]},
        {"samples_s": [0.1, -0.1]},
        {"load_s": math.inf},
        {"resident_bytes": math.inf},
        {"samples_s": 0.1},
        {"load_s": None},
    ],
)
def test_figures_that_nothing_could_have_are_a_bad_reply(figures):
    """A background look would have learned of them, and ended with a traceback."""
    usual = {"samples_s": [0.1, 0.2], "load_s": 1.0, "resident_bytes": 100}
    assert RemoteServer(Transport(json.dumps(usual).encode())).measure("m").load_s == 1.0
    with pytest.raises(BadReplyError, match="figures"):
        RemoteServer(Transport(json.dumps(usual | figures).encode())).measure("m")

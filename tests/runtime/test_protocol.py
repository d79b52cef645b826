import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import ProtocolError
from isthmus.runtime.codecs import CODECS
from isthmus.runtime.datatypes import DATATYPES
from isthmus.runtime.protocol import (
    HEADER_LENGTH,
    InferReply,
    InferRequest,
    RequestedOutput,
    WireTensor,
    bytes_element,
    bytes_payload,
    format_server_timing,
    pack_reply,
    pack_request,
    parse_server_timing,
    unpack_reply,
    unpack_request,
)
from isthmus.types.codec import Payload

A_TENSOR = np.arange(6, dtype=np.float32).reshape(2, 3)


def a_wire_tensor(name="x", array=A_TENSOR):
    return WireTensor(name, CODECS["raw"].encode(array))


def a_message(head, binary=b"", length=None):
    text = json.dumps(head).encode()
    return {HEADER_LENGTH.lower(): str(len(text) if length is None else length)}, text + binary


def one_input(binary=b"", **changes):
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", **changes}
    return a_message({"inputs": [{k: v for k, v in tensor.items() if v is not ...}]}, binary)


def array_of(payload):
    return np.frombuffer(payload.data, DATATYPES[payload.datatype]).reshape(payload.shape)


def test_a_request_survives_the_way():
    quantised = CODECS["u8+zstd"].encode(A_TENSOR)
    request = InferRequest(
        (a_wire_tensor(), WireTensor("q", quantised), WireTensor("f", bytes_payload(b"jpg", a=1))),
        id="17",
        parameters={"timeout": 5000},
        outputs=(RequestedOutput("y"),),
    )
    headers, body = pack_request(request)
    back = unpack_request(headers, body)
    assert headers["Content-Type"] == "application/octet-stream"
    assert back.id == "17"
    assert back.parameters == {"timeout": 5000, "binary_data_output": True}
    assert [tensor.name for tensor in back.inputs] == ["x", "q", "f"]
    assert np.array_equal(array_of(back.inputs[0].payload), A_TENSOR)
    assert back.inputs[1].payload == quantised
    assert bytes_element(back.inputs[2].payload) == b"jpg"
    assert back.inputs[2].payload.parameters == {"a": 1}
    assert back.binary_outputs(["y", "z"]) == {"y", "z"}


def test_the_tensors_of_an_unpacked_message_are_not_copied():
    headers, body = pack_request(InferRequest((a_wire_tensor(),)))
    data = unpack_request(headers, body).inputs[0].payload.data
    assert isinstance(data, memoryview)
    assert data.obj is body


@pytest.mark.parametrize("binary", [None, (), ("y",), ("y", "h")])
def test_a_reply_survives_the_way_as_bytes_and_as_json(binary):
    half = np.array([1, 2.5], np.float16)
    flags = np.array([True, False])
    reply = InferReply(
        "m",
        (a_wire_tensor("y"), a_wire_tensor("h", half), a_wire_tensor("b", flags)),
        model_version="3",
        id="17",
        parameters={"cache": "hit"},
    )
    back = unpack_reply(*pack_reply(reply, binary=binary))
    assert (back.model_name, back.model_version, back.id) == ("m", "3", "17")
    assert back.parameters == {"cache": "hit"}
    for tensor, expected in zip(back.outputs, (A_TENSOR, half, flags), strict=True):
        found = array_of(tensor.payload)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def test_a_json_reply_needs_no_length_header():
    headers, body = pack_reply(InferReply("m", (a_wire_tensor("y"),)), binary=())
    assert headers == {"Content-Type": "application/json"}
    assert json.loads(body)["outputs"][0]["data"] == [0, 1, 2, 3, 4, 5]


def test_values_without_a_json_form_are_refused():
    bad = a_wire_tensor("y", np.array([np.nan], np.float32))
    with pytest.raises(ProtocolError, match="binary"):
        pack_reply(InferReply("m", (bad,)), binary=())
    pack_reply(InferReply("m", (bad,)))
    with pytest.raises(ProtocolError, match="no JSON form"):
        pack_request(InferRequest((a_wire_tensor(),), parameters={"x": float("nan")}))
    with pytest.raises(ProtocolError, match="no JSON form"):
        pack_request(InferRequest((a_wire_tensor(),), parameters={"x": b"bytes"}))


@pytest.mark.parametrize("datatype", [d for d in DATATYPES if d != "FP16"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_json_tensors_of_every_datatype_flat_and_nested(datatype, is_nested):
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(DATATYPES[datatype])
    data = array.tolist() if is_nested else array.ravel().tolist()
    head = {"inputs": [{"name": "x", "shape": [3, 2], "datatype": datatype, "data": data}]}
    request = unpack_request({}, json.dumps(head).encode())
    assert np.array_equal(array_of(request.inputs[0].payload), array)
    assert not request.binary_outputs(["y"])


def test_json_strings_become_bytes_elements():
    payload = unpack_request(*one_input(datatype="BYTES", shape=[1], data=["é"])).inputs[0].payload
    assert bytes_element(payload) == "é".encode()


def test_empty_tensors():
    assert unpack_request(*one_input(shape=[0], data=[])).inputs[0].payload.data == b""
    sized = one_input(shape=[0, 4], parameters={"binary_data_size": 0})
    assert unpack_request(*sized).inputs[0].payload.shape == (0, 4)


def test_outputs_are_asked_for_one_by_one_or_all_together():
    def binary(parameters, outputs):
        request = InferRequest((), parameters=parameters, outputs=outputs)
        return request.binary_outputs(["y", "z"])

    assert binary({}, ()) == set()
    assert binary({"binary_data_output": True}, ()) == {"y", "z"}
    only_y = (RequestedOutput("y", {"binary_data": True}), RequestedOutput("z"))
    assert binary({}, only_y) == {"y"}
    not_y = (RequestedOutput("y", {"binary_data": False}), RequestedOutput("z"))
    assert binary({"binary_data_output": True}, not_y) == {"z"}


def test_the_size_of_an_encoded_tensor_is_the_codecs_business():
    parameters = {"codec": "zstd", "binary_data_size": 3}
    payload = unpack_request(*one_input(b"abc", parameters=parameters)).inputs[0].payload
    assert bytes(payload.data) == b"abc"
    assert payload.parameters == {"codec": "zstd"}


SIZE_8 = {"binary_data_size": 8}
ONE = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}

MALFORMED = {
    "no json": ({}, b"{"),
    "empty": ({}, b""),
    "not utf-8": ({}, b"\xff\xfe{}"),
    "utf-16": ({}, '{"inputs": []}'.encode("utf-16")),
    "an array": ({}, b"[]"),
    "too deep": ({}, b'{"inputs":' + b"[" * 100_000),
    "a huge number": ({}, b'{"inputs":' + b"9" * 10_000 + b"}"),
    "no inputs": ({}, b"{}"),
    "empty inputs": ({}, b'{"inputs": []}'),
    "inputs are no list": ({}, b'{"inputs": {}}'),
    "an input is no object": ({}, b'{"inputs": [1]}'),
    "too many inputs": a_message({"inputs": [{}] * 300}),
    "header length too long": a_message({"inputs": [ONE]}, length=10_000),
    "header length too short": a_message({"inputs": []}, length=3),
    "header length negative": a_message({"inputs": [ONE]}, length=-1),
    "header length no number": a_message({"inputs": []}, length="ten"),
    "header length absurd": a_message({"inputs": []}, length="9" * 5000),
    "header length not ascii": a_message({"inputs": []}, length="²"),
    "no name": one_input(bytes(8), name=..., parameters=SIZE_8),
    "name is no string": one_input(bytes(8), name=3, parameters=SIZE_8),
    "no datatype": one_input(bytes(8), datatype=..., parameters=SIZE_8),
    "unknown datatype": one_input(bytes(8), datatype="FP99", parameters=SIZE_8),
    "datatype is no string": one_input(bytes(8), datatype=["FP32"], parameters=SIZE_8),
    "no shape": one_input(bytes(8), shape=..., parameters=SIZE_8),
    "negative shape": one_input(bytes(8), shape=[-2], parameters=SIZE_8),
    "fractional shape": one_input(bytes(8), shape=[2.0], parameters=SIZE_8),
    "boolean shape": one_input(bytes(4), shape=[True], parameters={"binary_data_size": 4}),
    "shape of text": one_input(bytes(8), shape="2", parameters=SIZE_8),
    "endless shape": one_input(bytes(8), shape=[1] * 500, parameters=SIZE_8),
    "astronomic shape": one_input(bytes(8), shape=[1 << 60], parameters=SIZE_8),
    "no data": one_input(bytes(8)),
    "parameters are no object": one_input(bytes(8), parameters=[8]),
    "size negative": one_input(bytes(8), parameters={"binary_data_size": -8}),
    "size too large": one_input(bytes(8), parameters={"binary_data_size": 9}),
    "size huge": one_input(bytes(8), parameters={"binary_data_size": 10**30}),
    "size is a boolean": one_input(b"a", shape=[1], parameters={"binary_data_size": True}),
    "size is a float": one_input(bytes(8), parameters={"binary_data_size": 8.0}),
    "size is not the shape's": one_input(bytes(4), parameters={"binary_data_size": 4}),
    "body truncated": one_input(bytes(7), parameters=SIZE_8),
    "bytes left over": one_input(bytes(9), parameters=SIZE_8),
    "data and size": one_input(bytes(8), data=[1, 2], parameters=SIZE_8),
    "data too short": one_input(data=[1]),
    "data too long": one_input(data=[1, 2, 3]),
    "data ragged": one_input(data=[[1], [2, 3]]),
    "data nested wrongly": one_input(shape=[2, 3], data=[[1, 2], [3, 4], [5, 6]]),
    "data too deep": one_input(data=[[[[[[1]], [[2]]]]]]),
    "data of text": one_input(data=["1", "2"]),
    "data of booleans": one_input(data=[True, False]),
    "data with null": one_input(data=[1, None]),
    "data no list": one_input(data=7),
    "data out of range": one_input(datatype="UINT8", data=[1, 256]),
    "data below range": one_input(datatype="UINT8", data=[1, -1]),
    "data beyond int64": one_input(datatype="INT64", data=[1, 2**70]),
    "data beyond float32": one_input(data=[1, 1e39]),
    "data beyond float64": ({}, one_input(data=[1, 2])[1].replace(b"[1, 2]", b"[1, 1e999]")),
    "fractions as integers": one_input(datatype="INT32", data=[1.5, 2]),
    "integers as booleans": one_input(datatype="BOOL", data=[1, 0]),
    "FP16 as json": one_input(datatype="FP16", data=[1, 2]),
    "NaN in json": ({}, one_input(data=[1, 2])[1].replace(b"[1, 2]", b"[1, NaN]")),
    "infinity in json": ({}, one_input(data=[1, 2])[1].replace(b"[1, 2]", b"[1, -Infinity]")),
    "BYTES too short": one_input(
        b"\x09\0\0\0ab", datatype="BYTES", shape=[1], parameters={"binary_data_size": 6}
    ),
    "BYTES too long": one_input(
        b"\x01\0\0\0ab", datatype="BYTES", shape=[1], parameters={"binary_data_size": 6}
    ),
    "BYTES of another count": one_input(
        b"\x02\0\0\0ab", datatype="BYTES", shape=[2], parameters={"binary_data_size": 6}
    ),
    "BYTES of numbers": one_input(datatype="BYTES", shape=[1], data=[7]),
    "BYTES of half a character": one_input(datatype="BYTES", shape=[1], data=["\ud800"]),
    "id is no string": a_message({"id": 7, "inputs": [ONE]}),
    "message parameters are no object": a_message({"parameters": [], "inputs": [ONE]}),
    "outputs no list": a_message({"outputs": {}, "inputs": [ONE]}),
    "output no object": a_message({"outputs": ["y"], "inputs": [ONE]}),
    "output without a name": a_message({"outputs": [{}], "inputs": [ONE]}),
    "output twice": a_message({"outputs": [{"name": "y"}] * 2, "inputs": [ONE]}),
    "input twice": a_message({"inputs": [ONE] * 2}),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_are_protocol_errors(message):
    with pytest.raises(ProtocolError) as raised:
        unpack_request(*message)
    assert str(raised.value)


A_GOOD_BODY = pack_request(InferRequest((a_wire_tensor(), a_wire_tensor("z"))))


@settings(max_examples=300, deadline=None)
@given(
    keep=st.integers(0, len(A_GOOD_BODY[1])),
    at=st.integers(0, len(A_GOOD_BODY[1]) - 1),
    byte=st.integers(0, 255),
)
def test_damage_is_a_protocol_error_or_harmless(keep, at, byte):
    headers, body = A_GOOD_BODY
    changed = bytearray(body)
    changed[at] = byte
    for message in (body[:keep], bytes(changed)):
        try:
            request = unpack_request(headers, message)
        except ProtocolError:
            continue
        assert all(array_of(tensor.payload) is not None for tensor in request.inputs)


@pytest.mark.parametrize(
    "head", [b"{}", b"[]", b'{"outputs": []', b'{"model_name":1,"outputs":[]}']
)
def test_malformed_replies_are_protocol_errors(head):
    with pytest.raises(ProtocolError):
        unpack_reply({}, head)


@pytest.mark.parametrize(
    "payload",
    [
        Payload("FP32", (1,), bytes(4), {}),
        Payload("BYTES", (2,), b"\0\0\0\0\0\0\0\0", {}),
        Payload("BYTES", (1,), b"\x05\0\0\0a", {}),
        Payload("BYTES", (1,), b"\x05", {}),
    ],
)
def test_what_is_not_one_file_is_refused(payload):
    with pytest.raises(ProtocolError):
        bytes_element(payload)


STAGES = st.sampled_from(["queue", "load", "decode", "infer", "total"])


@given(st.dictionaries(STAGES, st.floats(0, 1000), min_size=1))
def test_server_timing_survives_the_way_within_a_tenth_of_a_microsecond(durations_s):
    back = parse_server_timing(format_server_timing(durations_s))
    assert back.keys() == durations_s.keys()
    assert all(abs(back[name] - durations_s[name]) <= 1e-7 for name in back)


@pytest.mark.parametrize(
    "text", ["", ",", ";", "a", "a;dur", "a;dur=", "a;dur=x", "a;dur=-1", "a;dur=nan", "a;dur=inf"]
)
def test_strange_server_timings_are_left_out(text):
    assert parse_server_timing(text) == {}

"""Open Inference Protocol v2 with the binary tensor extension: bytes in, values out.

Packs and unpacks the bodies of ``infer`` requests and replies, and reads and writes
``Server-Timing``. It knows no HTTP server or client, and decodes no codec: a payload is checked
against its shape only where it is raw (``runtime.codecs`` checks the others).

References:
    KServe's open-inference-protocol, "REST"; Triton's "Binary Tensor Data Extension". Departs:
    parameters of a tensor may hold lists (the codecs' scales).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from isthmus.errors import ProtocolError
from isthmus.runtime.wire_tensors import (
    RequestedOutput,
    WireTensor,
    bytes_element,
    bytes_payload,
    json_from_tensor,
    tensor_from_json,
)

__all__ = [
    "HEADER_LENGTH",
    "InferReply",
    "InferRequest",
    "RequestedOutput",
    "WireTensor",
    "bytes_element",
    "bytes_payload",
    "format_server_timing",
    "pack_reply",
    "pack_request",
    "parse_server_timing",
    "unpack_reply",
    "unpack_request",
]

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Name of the header that says how many bytes of the body are JSON."""

_MAX_TENSORS = 256


@dataclass(frozen=True)
class InferRequest:
    """A request to run one model once.

    Attributes:
        inputs: The tensors, in the order in which they are sent.
        id: The client's own name for the request, may be empty.
        parameters: JSON values.
        outputs: Which outputs are wanted; empty for all.
    """

    inputs: tuple[WireTensor, ...]
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()

    def binary_outputs(self, names: Collection[str]) -> frozenset[str]:
        """Return which of the outputs named are to be sent as bytes rather than as JSON."""
        default = self.parameters.get("binary_data_output", False) is True
        asked = {o.name: o.parameters.get("binary_data", default) is True for o in self.outputs}
        return frozenset(name for name in names if asked.get(name, default))


@dataclass(frozen=True)
class InferReply:
    """The answer to an ``InferRequest``.

    Attributes:
        model_name: The model that answered.
        outputs: Its outputs.
        model_version: Its version, may be empty.
        id: The request's id.
        parameters: JSON values.
    """

    model_name: str
    outputs: tuple[WireTensor, ...]
    model_version: str = ""
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


def pack_request(request: InferRequest) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a request; tensors cross as bytes, both ways.

    Raises:
        ProtocolError: If a value has no place in JSON.
    """
    head: dict[str, Any] = {"id": request.id} if request.id else {}
    head["parameters"] = {**request.parameters, "binary_data_output": True}
    head["inputs"] = [_binary_head(tensor) for tensor in request.inputs]
    if request.outputs:
        head["outputs"] = [
            {"name": output.name, "parameters": {**output.parameters, "binary_data": True}}
            for output in request.outputs
        ]
    return _pack(head, [tensor.payload.data for tensor in request.inputs])


def unpack_request(
    headers: Mapping[str, str], body: bytes | bytearray | memoryview
) -> InferRequest:
    """Return what a request says. Binary tensors are views of ``body``, not copies.

    Args:
        headers: The message's headers, in any case.
        body: The whole body.

    Raises:
        ProtocolError: If it is not an Open Inference Protocol request.
    """
    head, binary = _unpack(headers, body)
    inputs = _tensors(head, "inputs", binary)
    if not inputs:
        raise ProtocolError("the request has no inputs")
    wanted = head.get("outputs", [])
    if not isinstance(wanted, list) or len(wanted) > _MAX_TENSORS:
        raise ProtocolError(f"outputs must be a list of at most {_MAX_TENSORS}")
    outputs = tuple(RequestedOutput.from_json(value) for value in wanted)
    _refuse_repeats("outputs", [output.name for output in outputs])
    return InferRequest(inputs, _text(head, "id"), _parameters(head), outputs)


def pack_reply(
    reply: InferReply, *, binary: Collection[str] | None = None
) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a reply.

    Args:
        reply: The answer; its payloads are raw.
        binary: Names of the outputs that are sent as bytes, the others go into the JSON;
            ``None`` for all. FP16 has no JSON form and is always sent as bytes.
    """
    head: dict[str, Any] = {"model_name": reply.model_name}
    if reply.model_version:
        head["model_version"] = reply.model_version
    if reply.id:
        head["id"] = reply.id
    if reply.parameters:
        head["parameters"] = dict(reply.parameters)
    outputs, parts = [], []
    for tensor in reply.outputs:
        if binary is None or tensor.name in binary or tensor.payload.datatype == "FP16":
            outputs.append(_binary_head(tensor))
            parts.append(tensor.payload.data)
        else:
            outputs.append(json_from_tensor(tensor))
    head["outputs"] = outputs
    return _pack(head, parts)


def unpack_reply(headers: Mapping[str, str], body: bytes | memoryview) -> InferReply:
    """Return what a reply says. Binary tensors are views of ``body``, not copies.

    Raises:
        ProtocolError: If it is not an Open Inference Protocol reply.
    """
    head, binary = _unpack(headers, body)
    outputs = _tensors(head, "outputs", binary)
    return InferReply(
        _text(head, "model_name"),
        outputs,
        _text(head, "model_version"),
        _text(head, "id"),
        _parameters(head),
    )


def format_server_timing(durations_s: Mapping[str, float]) -> str:
    """Return a ``Server-Timing`` header; its durations are milliseconds.

    Examples:
        >>> format_server_timing({"queue": 0.0, "infer": 0.0123456})
        'queue;dur=0.0000, infer;dur=12.3456'
    """
    return ", ".join(f"{name};dur={value * 1e3:.4f}" for name, value in durations_s.items())


def parse_server_timing(text: str) -> dict[str, float]:
    """Return the durations of a ``Server-Timing`` header in seconds.

    Entries that hold no usable duration are left out: proxies add their own.

    Examples:
        >>> parse_server_timing('cache;desc="hit", infer;desc=x;dur=12.5')
        {'infer': 0.0125}
    """
    durations_s = {}
    for entry in text.split(","):
        name, *attributes = (part.strip() for part in entry.split(";"))
        for attribute in attributes:
            key, _, value = attribute.partition("=")
            if key.strip().lower() == "dur":
                try:
                    duration_ms = float(value.strip().strip('"'))
                except ValueError:
                    continue
                if math.isfinite(duration_ms) and duration_ms >= 0:
                    durations_s[name] = duration_ms / 1e3
    return durations_s


def _pack(head: dict[str, Any], parts: list[bytes | memoryview]) -> tuple[dict[str, str], bytes]:
    try:
        text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"the message has no JSON form: {error}") from error
    if not parts:
        return {"Content-Type": "application/json"}, text
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}
    return headers, b"".join((text, *parts))


def _binary_head(tensor: WireTensor) -> dict[str, Any]:
    payload = tensor.payload
    return {
        "name": tensor.name,
        "shape": list(payload.shape),
        "datatype": payload.datatype,
        "parameters": {**payload.parameters, "binary_data_size": len(payload.data)},
    }


def _unpack(
    headers: Mapping[str, str], body: bytes | bytearray | memoryview
) -> tuple[dict[str, Any], memoryview]:
    """Split a message into its JSON object and the bytes behind it."""
    view = memoryview(body)
    length = len(view)
    for key, value in headers.items():
        if key.lower() == HEADER_LENGTH.lower():
            if not (value.isascii() and value.isdigit() and len(value) < 20):
                raise ProtocolError(f"{HEADER_LENGTH} must be a number, got {value[:40]!r}")
            length = int(value)
    if length > len(view):
        raise ProtocolError(f"{HEADER_LENGTH} is {length}, the body has {len(view)} bytes")
    try:
        text = str(view[:length], "utf-8")
        head = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the message's head is no JSON: {error}") from error
    if not isinstance(head, dict):
        raise ProtocolError("the message's head must be a JSON object")
    return head, view[length:]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _tensors(head: Mapping[str, Any], key: str, binary: memoryview) -> tuple[WireTensor, ...]:
    values = head.get(key)
    if not isinstance(values, list) or len(values) > _MAX_TENSORS:
        raise ProtocolError(f"{key} must be a list of at most {_MAX_TENSORS}")
    tensors = []
    for value in values:
        tensor, binary = tensor_from_json(value, binary)
        tensors.append(tensor)
    if len(binary):
        raise ProtocolError(f"{len(binary)} bytes are left behind the last of the {key}")
    _refuse_repeats(key, [tensor.name for tensor in tensors])
    return tuple(tensors)


def _refuse_repeats(key: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise ProtocolError(f"{key} must have different names, got {names}")


def _text(head: Mapping[str, Any], key: str) -> str:
    value = head.get(key, "")
    if not isinstance(value, str):
        raise ProtocolError(f"{key} must be a string")
    return value


def _parameters(head: Mapping[str, Any]) -> Mapping[str, Any]:
    value = head.get("parameters", {})
    if not isinstance(value, dict):
        raise ProtocolError("parameters must be a JSON object")
    return value

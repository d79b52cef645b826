"""One tensor of an Open Inference Protocol message: its JSON head, its bytes, and the checks.

It reads no whole message (``runtime.protocol`` does) and decodes no codec.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isthmus.errors import ProtocolError
from isthmus.runtime.datatypes import DATATYPES, dtype_of
from isthmus.types.codec import Payload

__all__ = [
    "RequestedOutput",
    "WireTensor",
    "bytes_element",
    "bytes_payload",
    "json_from_tensor",
    "tensor_from_json",
]

_MAX_DIMENSIONS = 16
_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor


@dataclass(frozen=True)
class WireTensor:
    """A named tensor in a message."""

    name: str
    payload: Payload


@dataclass(frozen=True)
class RequestedOutput:
    """An output that a request asks for.

    Attributes:
        name: The output's name.
        parameters: JSON values; ``binary_data`` asks for bytes rather than JSON.
    """

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_json(value: Any) -> RequestedOutput:
        """Read an entry of a request's ``outputs``.

        Raises:
            ProtocolError: If it is malformed.
        """
        if not isinstance(value, dict):
            raise ProtocolError("every entry of outputs must be a JSON object")
        name, parameters = value.get("name"), value.get("parameters", {})
        if not isinstance(name, str) or not isinstance(parameters, dict):
            raise ProtocolError("every entry of outputs needs a name; parameters are an object")
        return RequestedOutput(name, parameters)


def bytes_payload(element: bytes | memoryview, **parameters: Any) -> Payload:
    """Return the payload of a ``BYTES`` tensor of shape ``[1]`` that holds ``element``."""
    return Payload("BYTES", (1,), b"".join((_LENGTH.pack(len(element)), element)), parameters)


def bytes_element(payload: Payload) -> memoryview:
    """Return the one element of a ``BYTES`` tensor of shape ``[1]``.

    Raises:
        ProtocolError: If the payload is anything else.
    """
    if payload.datatype != "BYTES" or payload.shape != (1,):
        raise ProtocolError(
            f"expected BYTES [1], got {payload.datatype} {list(payload.shape)}: one file, with "
            "its length as u32 before it"
        )
    _check_elements("the tensor", memoryview(payload.data), 1)
    return memoryview(payload.data)[_LENGTH.size :]


def tensor_from_json(value: Any, binary: memoryview) -> tuple[WireTensor, memoryview]:
    """Read one tensor.

    Args:
        value: Its entry in the message's JSON.
        binary: The bytes behind the JSON that no earlier tensor has taken.

    Returns:
        The tensor, and the bytes that it has left for the next.

    Raises:
        ProtocolError: If it is malformed, or its bytes do not match shape and datatype.
    """
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ProtocolError("every tensor must be a JSON object with a name")
    name, datatype = value["name"], value.get("datatype")
    shape = _shape(name, value.get("shape"))
    parameters = value.get("parameters", {})
    if not isinstance(datatype, str) or (datatype not in DATATYPES and datatype != "BYTES"):
        known = ", ".join((*DATATYPES, "BYTES"))
        raise ProtocolError(f"{name!r} has the datatype {datatype!r}, known are {known}")
    if not isinstance(parameters, dict):
        raise ProtocolError(f"{name!r}: parameters must be a JSON object")
    size = parameters.get("binary_data_size")
    if "data" in value:
        if size is not None:
            raise ProtocolError(f"{name!r} has both data and binary_data_size")
        data = _data_from_json(name, datatype, shape, value["data"])
        return WireTensor(name, Payload(datatype, shape, data, parameters)), binary
    if type(size) is not int or not 0 <= size <= len(binary):
        raise ProtocolError(
            f"{name!r} needs data, or a binary_data_size of at most the {len(binary)} bytes left; "
            f"got {size!r}"
        )
    chunk = binary[:size]
    if datatype == "BYTES":
        _check_elements(repr(name), chunk, math.prod(shape))
    elif "codec" not in parameters:
        expected = math.prod(shape) * dtype_of(datatype).itemsize
        if size != expected:
            raise ProtocolError(
                f"{name!r} is {datatype} {list(shape)}, which takes {expected} bytes, got {size}"
            )
    rest = {key: entry for key, entry in parameters.items() if key != "binary_data_size"}
    return WireTensor(name, Payload(datatype, shape, chunk, rest)), binary[size:]


def json_from_tensor(tensor: WireTensor) -> dict[str, Any]:
    """Return the JSON form of a raw tensor, its data flat.

    Raises:
        ProtocolError: If it has no JSON form: FP16, BYTES, or values that are not finite.
    """
    payload = tensor.payload
    if payload.datatype not in DATATYPES or payload.datatype == "FP16":
        raise ProtocolError(f"{tensor.name!r} is {payload.datatype}, which only crosses as bytes")
    array = np.frombuffer(payload.data, dtype_of(payload.datatype))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ProtocolError(f"{tensor.name!r} holds NaN or infinity: ask for it as binary data")
    head: dict[str, Any] = {
        "name": tensor.name,
        "shape": list(payload.shape),
        "datatype": payload.datatype,
        "data": array.tolist(),
    }
    if payload.parameters:
        head["parameters"] = dict(payload.parameters)
    return head


def _shape(name: str, value: Any) -> tuple[int, ...]:
    is_shape = isinstance(value, list) and len(value) <= _MAX_DIMENSIONS
    if not is_shape or not all(type(size) is int and 0 <= size < 1 << 40 for size in value):
        raise ProtocolError(f"{name!r} has no usable shape: {str(value)[:80]}")
    return tuple(value)


def _data_from_json(name: str, datatype: str, shape: tuple[int, ...], value: Any) -> bytes:
    if datatype == "FP16":
        raise ProtocolError(f"{name!r}: FP16 has no JSON form, send it as binary data")
    if not isinstance(value, list):
        raise ProtocolError(f"{name!r}: data must be a list, flat or nested as the shape")
    try:
        array = np.asarray(value, dtype=object if datatype == "BYTES" else None)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"{name!r}: data is not regular: {error}") from error
    if array.size != math.prod(shape) or (array.ndim > 1 and array.shape != shape):
        raise ProtocolError(f"{name!r}: data has the shape {list(array.shape)}, not {list(shape)}")
    if array.size == 0:
        return b""
    if datatype == "BYTES":
        return _elements(name, array.ravel().tolist())
    dtype = dtype_of(datatype)
    allowed = {"b": "b", "f": "fiu"}.get(dtype.kind, "iu")
    if array.dtype.kind not in allowed:
        raise ProtocolError(f"{name!r}: data holds values that are not {datatype}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise ProtocolError(f"{name!r}: data holds values outside the range of {datatype}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(converted).all():
        raise ProtocolError(f"{name!r}: data holds values outside the range of {datatype}")
    return converted.tobytes()


def _elements(name: str, values: list[Any]) -> bytes:
    if not all(isinstance(value, str) for value in values):
        raise ProtocolError(f"{name!r}: BYTES elements in JSON must be strings")
    try:
        encoded = [value.encode() for value in values]
    except UnicodeEncodeError as error:
        raise ProtocolError(f"{name!r}: {error}") from error
    return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))


def _check_elements(name: str, data: memoryview, count: int) -> None:
    """Walk the elements of a BYTES tensor; their lengths must fill its bytes exactly."""
    at = found = 0
    while at + _LENGTH.size <= len(data) and found < count:
        at += _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        found += 1
    if at != len(data) or found != count:
        raise ProtocolError(f"{name}: the bytes do not hold exactly {count} BYTES elements")

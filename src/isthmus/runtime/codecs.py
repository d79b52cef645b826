"""Codecs: a tensor becomes the bytes that cross the link, and a tensor again.

``raw`` is the plain tensor, ``fp16`` half precision, ``u8`` one byte per element by an affine map
(``affine``), ``u8c`` the same with a map for each channel; ``zstd``, ``fp16+zstd``, ``u8+zstd``
and ``u8c+zstd`` are those compressed. They choose nothing (a plan names its codec) and know no
message format beyond one tensor's parameters. On the wire ``u8c`` is a ``u8`` with an axis.

Values that a codec cannot carry are an error and never a wrong answer: ``fp16`` takes finite
values up to 65504 (those that round beyond are refused, those below 2**-25 become 0; NaN and
infinities cross as they are), ``u8`` and ``u8c`` take finite values only.

Encoding makes a few passes over the data: it is on the critical path. Decoding trusts nothing:
sizes are checked before memory is taken, and a compressed frame may unpack to exactly the size
that the shape says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.errors import CodecError
from isthmus.runtime.affine import LARGEST, LEVELS, dequantise, quantise, quantise_channels
from isthmus.runtime.datatypes import DATATYPES, datatype_of, dtype_of
from isthmus.runtime.zstd import compress, decompress
from isthmus.types.codec import Codec, Payload
from isthmus.types.variant import InputPipeline

__all__ = ["CODECS", "decode", "encode_pixels"]

_FLOATS = ("FP16", "FP32", "FP64")


@dataclass(frozen=True)
class _Plain:
    """The tensor's own bytes, little endian, row-major."""

    name: str
    is_compressed: bool
    is_lossless: bool = True

    def encode(self, array: np.ndarray) -> Payload:
        datatype = _known_datatype(array)
        return _payload(self, datatype, array, {"original_datatype": datatype})


@dataclass(frozen=True)
class _Half:
    """Half precision: 11 bits of the mantissa."""

    name: str
    is_compressed: bool
    is_lossless: bool = False

    def encode(self, array: np.ndarray) -> Payload:
        datatype = _float_datatype(self, array)
        half = _converted(array, np.dtype(np.float16), self.name)
        return _payload(self, "FP16", half, {"original_datatype": datatype})


@dataclass(frozen=True)
class _AffineU8:
    """One byte per element, the largest error half a step; channels are a second axis of three."""

    name: str
    is_compressed: bool
    is_per_channel: bool = False
    is_lossless: bool = False

    def encode(self, array: np.ndarray) -> Payload:
        datatype = _float_datatype(self, array)
        values = _converted(array, np.dtype(np.float32), self.name)
        parameters: dict[str, Any] = {"original_datatype": datatype}
        if self.is_per_channel:
            if values.ndim < 3:
                raise CodecError(
                    f"{self.name} encodes tensors with channels as second axis, such as NCHW; "
                    f"this one has shape {list(values.shape)}"
                )
            quantised, scales, zero_points = quantise_channels(values)
            parameters |= {"scale": scales, "zero_point": zero_points, "axis": 1}
        else:
            quantised, scale, zero_point = quantise(values)
            parameters |= {"scale": scale, "zero_point": zero_point}
        return _payload(self, "UINT8", quantised, parameters)


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        codec.name: codec
        for codec in (
            _Plain("raw", is_compressed=False),
            _Plain("zstd", is_compressed=True),
            _Half("fp16", is_compressed=False),
            _Half("fp16+zstd", is_compressed=True),
            _AffineU8("u8", is_compressed=False),
            _AffineU8("u8+zstd", is_compressed=True),
            _AffineU8("u8c", is_compressed=False, is_per_channel=True),
            _AffineU8("u8c+zstd", is_compressed=True, is_per_channel=True),
        )
    }
)
"""Every codec by its name."""

_ON_THE_WIRE = {"u8c": "u8", "u8c+zstd": "u8+zstd"}
_CROSSES_AS = {"fp16": "FP16", "u8": "UINT8"}


def encode_pixels(
    planar_u8: NDArray[np.uint8], pipeline: InputPipeline, *, zstd: bool = False
) -> Payload:
    """Encode an input tensor as the bytes that it is normalised from; nothing is lost.

    Args:
        planar_u8: uint8 ``[1, 3, H, W]``, channels in the pipeline's order.
        pipeline: Says mean and std, which become zero point and scale.
        zstd: Whether to compress.

    Returns:
        A payload of codec ``u8`` or ``u8+zstd`` that decodes to exactly what
        ``image.normalise(planar_u8, pipeline)`` returns.
    """
    parameters = {
        "original_datatype": "FP32",
        "scale": [1 / value for value in pipeline.std],
        "zero_point": list(pipeline.mean),
        "axis": 1,
    }
    codec = _AffineU8("u8+zstd" if zstd else "u8", is_compressed=zstd)
    return _payload(codec, "UINT8", planar_u8, parameters)


def decode(payload: Payload, *, limit_bytes: int) -> np.ndarray:
    """Return the tensor that a payload holds.

    Args:
        payload: From any of the codecs, or from a stranger.
        limit_bytes: Largest tensor to make, bytes; a larger one is refused before any memory is
            taken.

    Returns:
        An array of the payload's shape. A raw payload's is a read-only view of its bytes.

    Raises:
        CodecError: If the payload is not what it claims to be, or larger than the limit.
    """
    parameters = payload.parameters
    name = parameters.get("codec", "raw")
    if not isinstance(name, str) or name not in CODECS or name in _ON_THE_WIRE:
        known = ", ".join(name for name in CODECS if name not in _ON_THE_WIRE)
        raise CodecError(f"unknown codec {name!r}, known are {known}")
    original = payload.datatype if name == "raw" else parameters.get("original_datatype", "FP32")
    if not isinstance(original, str) or original not in DATATYPES:
        raise CodecError(f"tensors of datatype {original!r} cannot be decoded")
    count = math.prod(payload.shape)
    dtype = dtype_of(original)
    if count * dtype.itemsize > limit_bytes:
        raise CodecError(
            f"a tensor of shape {list(payload.shape)} and datatype {original} takes "
            f"{count * dtype.itemsize} bytes, at most {limit_bytes} are expected here"
        )
    carries = name.removesuffix("+zstd")
    crosses_as = _CROSSES_AS.get(carries, original)
    if payload.datatype != crosses_as:
        raise CodecError(f"{original} crosses by {name!r} as {crosses_as}, not {payload.datatype}")
    if carries in _CROSSES_AS and original not in _FLOATS:
        raise CodecError(f"codec {name!r} carries floating point tensors, not {original}")
    size_bytes = count * dtype_of(crosses_as).itemsize
    data = decompress(payload.data, size_bytes) if name.endswith("zstd") else payload.data
    sent = np.frombuffer(_exactly(data, size_bytes), dtype_of(crosses_as)).reshape(payload.shape)
    if carries == "u8":
        sent = dequantise(sent, **_affine_map(parameters, payload.shape))
    return _converted(sent, dtype, name)


def _converted(array: np.ndarray, dtype: np.dtype, codec: str) -> np.ndarray:
    """Return floats in another precision, the array itself where it has it.

    Raises:
        CodecError: If a finite value rounds beyond the largest one.
    """
    try:
        with np.errstate(over="raise"):  # the processor's own flag: no pass of its own
            return array.astype(dtype, copy=False)
    except FloatingPointError:
        largest = np.finfo(dtype).max
        raise CodecError(
            f"{codec}: a value rounds beyond {largest:g}, the largest of {dtype}"
        ) from None


def _known_datatype(array: np.ndarray) -> str:
    datatype = datatype_of(array.dtype)
    if datatype is None:
        raise CodecError(f"tensors of dtype {array.dtype} cannot be encoded")
    return datatype


def _float_datatype(codec: Codec, array: np.ndarray) -> str:
    datatype = _known_datatype(array)
    if datatype not in _FLOATS:
        raise CodecError(f"{codec.name} encodes floating point tensors, got {array.dtype}")
    return datatype


def _bytes(array: np.ndarray) -> memoryview:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def _payload(
    codec: _Plain | _Half | _AffineU8,
    datatype: str,
    array: np.ndarray,
    parameters: Mapping[str, Any],
) -> Payload:
    data = _bytes(array)
    if codec.name == "raw":  # as any server understands it
        return Payload(datatype, array.shape, data, {})
    name = _ON_THE_WIRE.get(codec.name, codec.name)
    sent = compress(data) if codec.is_compressed else data
    return Payload(datatype, array.shape, sent, {"codec": name, **parameters})


def _affine_map(parameters: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    scale, zero_point, axis = (parameters.get(key) for key in ("scale", "zero_point", "axis"))
    if axis is None:
        values: list[tuple[Any, Any]] = [(scale, zero_point)]
    else:
        if type(axis) is not int or not 0 <= axis < len(shape):
            raise CodecError(f"axis {axis!r} is none of a tensor of shape {list(shape)}")
        for name, numbers in (("scale", scale), ("zero_point", zero_point)):
            if not isinstance(numbers, list | tuple) or len(numbers) != shape[axis]:
                raise CodecError(f"{name} needs {shape[axis]} numbers, one for each of axis {axis}")
        values = list(zip(scale, zero_point, strict=True))  # type: ignore[arg-type]
    for step, zero in values:
        if not (_is_number(step) and _is_number(zero)):
            raise CodecError(f"scale and zero_point must be numbers, got {step!r} and {zero!r}")
        if step <= 0:
            raise CodecError(f"scale must be positive, got {step}")
        ends = (LEVELS * step, abs(zero * step), abs((LEVELS - zero) * step))
        if not max(ends) <= LARGEST:
            raise CodecError(f"scale {step} and zero_point {zero} leave the range of float32")
    return {"scale": scale, "zero_point": zero_point, "axis": axis}


def _is_number(value: object) -> bool:
    """Whether ``value`` is a finite number that float64 holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)


def _exactly(data: bytes | memoryview, size_bytes: int) -> bytes | memoryview:
    if len(data) != size_bytes:
        raise CodecError(f"the tensor has {len(data)} bytes, its shape says {size_bytes}")
    return data

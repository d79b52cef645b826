"""Codecs: a tensor becomes the bytes that cross the link, and a tensor again.

``raw`` is the plain tensor, ``zstd`` the same compressed, ``u8`` an affine quantisation to one
byte per element (``x = (q - zero_point) * scale``), ``u8+zstd`` that compressed. They choose
nothing (a plan names its codec) and know no message format beyond one tensor's parameters.

Encoding makes a few passes over the data: it is on the critical path. Decoding trusts nothing:
sizes are checked before memory is taken, and a compressed frame may unpack to exactly the size
that the shape says.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from isthmus.errors import CodecError
from isthmus.runtime.affine import dequantise
from isthmus.runtime.datatypes import DATATYPES, datatype_of, dtype_of
from isthmus.types.codec import Codec, Payload
from isthmus.types.variant import InputPipeline

__all__ = ["CODECS", "decode", "encode_pixels"]

_ZSTD_LEVEL = 1
_MAX_WINDOW_BYTES = 1 << 23
_LEVELS = 255
_FLOATS = ("FP16", "FP32", "FP64")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Raw:
    """The tensor's own bytes, little endian, row-major."""

    name: str = "raw"
    is_lossless: bool = True

    def encode(self, array: np.ndarray) -> Payload:
        datatype = _known_datatype(array)
        return Payload(datatype, array.shape, _bytes(array), {})


@dataclass(frozen=True)
class _Zstd:
    """The tensor's own bytes, compressed."""

    name: str = "zstd"
    is_lossless: bool = True

    def encode(self, array: np.ndarray) -> Payload:
        datatype = _known_datatype(array)
        parameters = {"codec": self.name, "original_datatype": datatype}
        return Payload(datatype, array.shape, _compress(_bytes(array)), parameters)


@dataclass(frozen=True)
class _AffineU8:
    """One byte per element, the largest error half a step."""

    name: str
    is_compressed: bool
    is_lossless: bool = False

    def encode(self, array: np.ndarray) -> Payload:
        datatype = _known_datatype(array)
        if datatype not in _FLOATS:
            raise CodecError(f"{self.name} encodes floating point tensors, got {array.dtype}")
        quantised, scale, zero_point = _quantise(array)
        return _u8_payload(
            quantised, scale, zero_point, self.is_compressed, original_datatype=datatype
        )


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        codec.name: codec
        for codec in (_Raw(), _AffineU8("u8", False), _AffineU8("u8+zstd", True), _Zstd())
    }
)
"""Every codec by its name."""


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
    scale = [1 / value for value in pipeline.std]
    return _u8_payload(planar_u8, scale, list(pipeline.mean), zstd, axis=1)


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
    if not isinstance(name, str) or name not in CODECS:
        raise CodecError(f"unknown codec {name!r}, known are {', '.join(CODECS)}")
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
    if name in ("raw", "zstd"):
        if payload.datatype != original:
            raise CodecError(f"codec {name!r} keeps the datatype {original}")
        size_bytes = count * dtype.itemsize
        data = _decompress(payload.data, size_bytes) if name == "zstd" else payload.data
        return np.frombuffer(_exactly(data, size_bytes), dtype).reshape(payload.shape)
    if original not in _FLOATS or payload.datatype != "UINT8":
        raise CodecError(f"codec {name!r} carries floats as UINT8, not {original}")
    data = _decompress(payload.data, count) if name == "u8+zstd" else payload.data
    quantised = np.frombuffer(_exactly(data, count), np.uint8).reshape(payload.shape)
    values = dequantise(quantised, **_affine_map(parameters, payload.shape))
    return values if original == "FP32" else values.astype(dtype)


def _known_datatype(array: np.ndarray) -> str:
    datatype = datatype_of(array.dtype)
    if datatype is None:
        raise CodecError(f"tensors of dtype {array.dtype} cannot be encoded")
    return datatype


def _bytes(array: np.ndarray) -> memoryview:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def _u8_payload(
    quantised: NDArray[np.uint8],
    scale: float | list[float],
    zero_point: float | list[float],
    is_compressed: bool,
    *,
    axis: int | None = None,
    original_datatype: str = "FP32",
) -> Payload:
    data = _bytes(quantised)
    parameters: dict[str, Any] = {
        "codec": "u8+zstd" if is_compressed else "u8",
        "scale": scale,
        "zero_point": zero_point,
        "original_datatype": original_datatype,
    }
    if axis is not None:
        parameters["axis"] = axis
    return Payload("UINT8", quantised.shape, _compress(data) if is_compressed else data, parameters)


def _quantise(array: np.ndarray) -> tuple[NDArray[np.uint8], float, float]:
    """Return bytes, scale and zero point; the range is [min, max], [0, max] after a ReLU."""
    if array.size == 0:
        return np.zeros(array.shape, np.uint8), 1.0, 0.0
    values = array if array.dtype == np.float32 else array.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    span = high - low
    if not span <= _LARGEST:  # also where an end is NaN or infinite: both pass through min and max
        raise CodecError(f"values from {low} to {high} cannot be quantised to one byte")
    scale = span / _LEVELS
    if np.float32(scale) < np.finfo(np.float32).tiny:  # constant, or as good as that
        return np.zeros(array.shape, np.uint8), 1.0, -low
    steps = values * np.float32(1 / scale) if low == 0 else values - np.float32(low)
    if low != 0:
        steps *= np.float32(1 / scale)
    steps += np.float32(0.5)
    return steps.astype(np.uint8), scale, (0.0 - low) / scale


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
        ends = (abs(step), abs(zero * step), abs((_LEVELS - zero) * step))
        if not max(ends) <= _LARGEST:
            raise CodecError(f"scale {step} and zero_point {zero} leave the range of float32")
    return {"scale": scale, "zero_point": zero_point, "axis": axis}


def _is_number(value: object) -> bool:
    """Whether ``value`` is a finite number that float64 holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)


def _exactly(data: bytes | memoryview, size_bytes: int) -> bytes | memoryview:
    if len(data) != size_bytes:
        raise CodecError(f"the tensor has {len(data)} bytes, its shape says {size_bytes}")
    return data


_per_thread = threading.local()  # neither a compressor nor a decompressor may be shared


def _compress(data: memoryview) -> bytes:
    compressor = getattr(_per_thread, "compressor", None)
    if compressor is None:
        compressor = _per_thread.compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    compressed: bytes = compressor.compress(data)
    return compressed


def _decompress(data: bytes | memoryview, size_bytes: int) -> bytes:
    decompressor = getattr(_per_thread, "decompressor", None)
    if decompressor is None:
        decompressor = _per_thread.decompressor = zstandard.ZstdDecompressor(
            max_window_size=_MAX_WINDOW_BYTES
        )
    try:
        claimed = zstandard.get_frame_parameters(data).content_size
        # A size in the header overrides max_output_size, so it is checked first.
        if claimed not in (size_bytes, zstandard.CONTENTSIZE_UNKNOWN):
            raise CodecError(f"the frame holds {claimed} bytes, its shape says {size_bytes}")
        if size_bytes == 0:
            return b""
        unpacked: bytes = decompressor.decompress(
            data, max_output_size=size_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CodecError(f"the compressed bytes are damaged: {error}") from error
    return unpacked

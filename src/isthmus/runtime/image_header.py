"""The headers of JPEG, PNG and WebP files: format, size, kind of JPEG; in microseconds.

It decodes nothing and judges nothing: where a header is not plain, it says nothing, and Pillow has
the word. Reading a header is on every request's way, before anything is decided, and Pillow's takes
several times as long as the decision itself (``docs/decisions/0009-headers-are-read-by-hand.md``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache

from isthmus.types.conditions import ImageFacts

__all__ = ["plain_header", "samples_per_pixel", "scan_count"]

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_JPEG = b"\xff\xd8\xff"
_SEGMENTS_LIMIT = 64
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers that start a frame
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_WITH_LENGTH = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xD0, 0xDB))
_SCAN, _END = 0xDA, 0xD9  # the markers
_SCAN_START = b"\xff\xda\x00"  # the marker, and the high byte of a length never above 255
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # neither stuffing, filling nor a restart
_SEGMENT = struct.Struct(">BBH")
_FRAME = struct.Struct(">BHHB")
_BITS = 8
_FACTORS_AT = _SEGMENT.size + _FRAME.size + 1  # behind the number of the first component
_COMPONENT_BYTES = 3
_COMPONENTS = (1, 3, 4)
_PNG_SIZE = struct.Struct(">II")
_FEW_SCANS = 20  # so many cost nothing worth counting exactly
_START_BYTES = 30  # enough for every header but JPEG's
_VP8_START = b"\x9d\x01\x2a"
_VP8_SIZE = struct.Struct("<HH")
_VP8L_SIGNATURE = 0x2F
_FOURTEEN_BITS = (1 << 14) - 1
_CHUNK = struct.Struct("<4sI")
_FRAME_BYTES = 16  # before the chunks of one frame of an animation


def plain_header(data: bytes | memoryview) -> ImageFacts | None:
    """Return what a plain JPEG, PNG or WebP header tells, or ``None`` if it is not plain.

    Plain is a JPEG whose segments follow one another up to its first frame, of eight bits a
    sample, a PNG that begins with its header chunk, and a WebP that begins with its picture or its
    canvas; all with a width and a height.

    Args:
        data: The whole file.

    References:
        RFC 9649 (WebP), RFC 6386 (its lossy frames), ITU-T T.81 (JPEG), RFC 2083 (PNG).
    """
    start = bytes(data[:_START_BYTES])
    if start.startswith(_JPEG):
        return _jpeg(data)
    if len(start) < _START_BYTES:
        return None
    if start.startswith(_PNG):
        width, height = _PNG_SIZE.unpack_from(start, 16)
        return ImageFacts("png", width, height, len(data)) if width and height else None
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        size = _webp_size(start)
        if size is None or not all(size):
            return None
        return ImageFacts("webp-lossless" if _is_lossless(data) else "webp", *size, len(data))
    return None


def scan_count(data: bytes) -> int:
    """Return how many scans of a JPEG a decoder works through, or an upper bound if that is small.

    That is one where the first scan of a sequential picture has all of its components, whatever
    follows. Otherwise all count, up to the picture's end; other pictures, in a thumbnail or behind
    that end, do not.

    Args:
        data: The whole file.

    References:
        ITU-T T.81, annex B. Whatever is no marker is skipped, as libjpeg does.
    """
    position, scans, components = 2, 0, b""
    while (found := _MARKER.search(data, position)) is not None:
        marker, position = data[found.end() - 1], found.end()
        if marker == _END:
            break
        if marker in _FRAMES and marker not in _PROGRESSIVE:
            components = data[position + 7 : position + 8]
        if marker == _SCAN:
            scans += 1
            if scans == 1 and components == data[position + 2 : position + 3]:
                return 1
            if scans == 1 and (bound := data.count(_SCAN_START)) <= _FEW_SCANS:
                return bound
        if marker == _SCAN or marker in _WITH_LENGTH:
            position += int.from_bytes(data[position : position + 2], "big")
    return scans


def samples_per_pixel(factors: Sequence[tuple[int, int]]) -> float:
    """Return how many samples a JPEG stores for a pixel; 0 if its factors make no sense.

    Args:
        factors: Of each component the sampling factors, horizontal and vertical.
    """
    if not factors or not all(h and v for h, v in factors):
        return 0.0
    most = max(h for h, _ in factors) * max(v for _, v in factors)
    return sum(h * v for h, v in factors) / most


@lru_cache(maxsize=64)  # a handful are in use, and this is on every request's way
def _samples_of(factors: bytes) -> float:
    return samples_per_pixel([(factor >> 4, factor & 15) for factor in factors])


def _jpeg(data: bytes | memoryview) -> ImageFacts | None:
    position, last = 2, len(data) - _SEGMENT.size - _FRAME.size
    for _ in range(_SEGMENTS_LIMIT):
        if position > last:
            return None
        prefix, marker, length = _SEGMENT.unpack_from(data, position)
        if prefix != 0xFF or marker not in _WITH_LENGTH or length < 2:
            return None
        if marker in _FRAMES:
            bits, height, width, components = _FRAME.unpack_from(data, position + _SEGMENT.size)
            if not (width and height and bits == _BITS and components in _COMPONENTS):
                return None
            first = position + _FACTORS_AT
            factors = bytes(data[first : first + _COMPONENT_BYTES * components : _COMPONENT_BYTES])
            per_pixel = _samples_of(factors)
            if not per_pixel or len(factors) < components:
                return None
            return ImageFacts("jpeg", width, height, len(data), marker in _PROGRESSIVE, per_pixel)
        position += 2 + length
    return None


def _is_lossless(data: bytes | memoryview) -> bool:
    """Return whether the first picture of a WebP is coded without loss."""
    position = 12
    for _ in range(_SEGMENTS_LIMIT):
        if position + _CHUNK.size > len(data):
            return False
        kind, size = _CHUNK.unpack_from(data, position)
        if kind in (b"VP8 ", b"VP8L"):
            return bool(kind == b"VP8L")
        position += _CHUNK.size + (_FRAME_BYTES if kind == b"ANMF" else size + size % 2)
    return False


def _webp_size(start: bytes) -> tuple[int, int] | None:
    """Return width and height of a lossy picture, a lossless one, or an extended file's canvas."""
    kind = start[12:16]
    if kind == b"VP8 " and start[23:26] == _VP8_START:
        width, height = _VP8_SIZE.unpack_from(start, 26)
        return width & _FOURTEEN_BITS, height & _FOURTEEN_BITS
    if kind == b"VP8L" and start[20] == _VP8L_SIGNATURE:
        bits = int.from_bytes(start[21:25], "little")
        return (bits & _FOURTEEN_BITS) + 1, (bits >> 14 & _FOURTEEN_BITS) + 1
    if kind == b"VP8X":
        width, height = start[24:27], start[27:30]
        return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
    return None

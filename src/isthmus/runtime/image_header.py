"""The first bytes of JPEG and PNG files: format, size, whether progressive; in microseconds.

It decodes nothing and judges nothing: where a header is not plain, it says nothing, and Pillow has
the word. Reading a header is on every request's way, before anything is decided, and Pillow's takes
several times as long as the decision itself (``docs/decisions/0009-headers-are-read-by-hand.md``).
"""

from __future__ import annotations

import struct

from isthmus.types.conditions import ImageFacts

__all__ = ["plain_header"]

_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_JPEG = b"\xff\xd8\xff"
_SEGMENTS_LIMIT = 64
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers that start a frame
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_WITH_LENGTH = frozenset(range(0xC0, 0xFF)) - frozenset(range(0xD0, 0xDA))
_SEGMENT = struct.Struct(">BBH")
_FRAME_SIZE = struct.Struct(">HH")
_PNG_SIZE = struct.Struct(">II")


def plain_header(data: bytes | memoryview) -> ImageFacts | None:
    """Return what a plain JPEG or PNG header tells, or ``None`` if it is not plain.

    Plain is a JPEG whose segments follow one another up to its first frame, and a PNG that
    begins with its header chunk; both with a width and a height.

    Args:
        data: The whole file.
    """
    start = bytes(data[:24])
    if start.startswith(_JPEG):
        return _jpeg(data)
    if start.startswith(_PNG) and len(start) == 24:
        width, height = _PNG_SIZE.unpack_from(start, 16)
        return ImageFacts("png", width, height, len(data)) if width and height else None
    return None


def _jpeg(data: bytes | memoryview) -> ImageFacts | None:
    position, last = 2, len(data) - 9
    for _ in range(_SEGMENTS_LIMIT):
        if position > last:
            return None
        prefix, marker, length = _SEGMENT.unpack_from(data, position)
        if prefix != 0xFF or marker not in _WITH_LENGTH or length < 2:
            return None
        if marker in _FRAMES:
            height, width = _FRAME_SIZE.unpack_from(data, position + 5)
            if not (width and height):
                return None
            return ImageFacts("jpeg", width, height, len(data), marker in _PROGRESSIVE)
        position += 2 + length
    return None

"""zstandard frames of a known size, and none larger. It knows no tensors.

Level 1: compressing is on a request's critical path. What a stranger sends is bounded twice, by
the size that the frame claims and by the memory that its window takes.
"""

from __future__ import annotations

import threading

import zstandard

from isthmus.errors import CodecError

__all__ = ["compress", "decompress"]

_LEVEL = 1
_MAX_WINDOW_BYTES = 1 << 23

_per_thread = threading.local()  # neither a compressor nor a decompressor may be shared


def compress(data: bytes | memoryview) -> bytes:
    """Return one frame that says the size of what it holds."""
    compressor = getattr(_per_thread, "compressor", None)
    if compressor is None:
        compressor = _per_thread.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    compressed: bytes = compressor.compress(data)
    return compressed


def decompress(data: bytes | memoryview, size_bytes: int) -> bytes:
    """Return what a frame holds, which must be ``size_bytes`` bytes at most.

    Raises:
        CodecError: If it holds more, is damaged, needs more than 8 MiB of window, or if something
            follows it. No memory is taken beyond ``size_bytes`` and the window.
    """
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

"""How much memory this process has, and that it keeps what was freed. It limits nothing."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

__all__ = ["KEPT_BYTES", "keep_freed_memory", "resident_bytes"]

KEPT_BYTES = 256 << 20
"""What is freed beyond this goes back to the system: a JPEG of 80 megapixels needs less."""

_STATUS = Path("/proc/self/status")
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # mallopt's parameters


@cache
def keep_freed_memory() -> bool:
    """Let the C library keep memory that was freed, however large the buffer; once a process.

    glibc maps each buffer above 32 MiB afresh, whatever came before, and the kernel fills it page
    by page: that doubled the time of decoding a WebP of 8 megapixels, and made a progressive JPEG
    of 17 megapixels take a seventh more than one just smaller (``docs/decisions/0025``). Threads
    share that memory if they allocated nothing before: those of their own would not keep any.

    Returns:
        Whether the C library has been told; others than glibc are left alone.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    wanted = {_MMAP_MAX: 0, _TRIM_THRESHOLD: KEPT_BYTES, _ARENA_MAX: 1}
    told = [libc.mallopt(parameter, value) for parameter, value in wanted.items()]
    return all(told)


def resident_bytes() -> int:
    """Return the memory that this process has, 0 where the system does not say.

    What was freed is given back to the system first (glibc keeps it otherwise), so that the
    difference of two calls is what was allocated between them.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    sizes_kib = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return 1024 * sum(sizes_kib)

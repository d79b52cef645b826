"""How much memory this process has, where the system says so. It limits nothing."""

from __future__ import annotations

import ctypes
from pathlib import Path

__all__ = ["resident_bytes"]

_STATUS = Path("/proc/self/status")


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

import platform
import resource
import subprocess
import sys

import numpy as np
import pytest

from isthmus.runtime import memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory it has")
def test_the_difference_is_what_was_allocated():
    before_bytes = memory.resident_bytes()
    kept = np.ones(40_000_000, np.uint8)
    with_it_bytes = memory.resident_bytes()
    assert with_it_bytes - before_bytes == pytest.approx(kept.nbytes, rel=0.2)
    del kept
    assert memory.resident_bytes() - before_bytes < 8_000_000


def test_a_system_that_does_not_say(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "nothing")
    assert memory.resident_bytes() == 0


_GLIBC = platform.libc_ver()[0] == "glibc"
_BUFFER_BYTES = 40_000_000  # above 32 MiB, from which on glibc maps each afresh
_FAULTS = f"""
import ctypes, resource
from concurrent.futures import ThreadPoolExecutor
from isthmus.runtime.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffer = ctypes.c_void_p(libc.malloc({_BUFFER_BYTES}))
    ctypes.memset(buffer, 1, {_BUFFER_BYTES})
    libc.free(buffer)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
afresh = [faults() for _ in range(3)][-1]
assert keep_freed_memory()
kept = [faults() for _ in range(3)][-1]
with ThreadPoolExecutor(1) as thread:
    kept = max(kept, [thread.submit(faults).result() for _ in range(3)][-1])
print(afresh, kept)
"""


@pytest.mark.skipif(not _GLIBC, reason="glibc's way")
def test_a_large_buffer_is_fetched_from_the_system_once():
    told = subprocess.run(
        [sys.executable, "-c", _FAULTS], check=True, capture_output=True, text=True
    ).stdout
    afresh, kept = map(int, told.split())
    pages = _BUFFER_BYTES // resource.getpagesize()
    if afresh < pages / 32:  # kernels may fetch several pages at a time
        pytest.skip("this system's pages are huge")
    assert kept <= afresh / 10


@pytest.mark.skipif(_GLIBC, reason="others")
def test_other_c_libraries_are_left_alone():
    assert not memory.keep_freed_memory()

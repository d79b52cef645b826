"""Claims: one process at a time changes a folder.

The kernel keeps them, and forgets them with the process, however it ends: nothing is left behind.
They keep out only who asks, so reading needs none. On file systems without locks, and on Windows,
nobody is kept out.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from isthmus.errors import BundleError

if sys.platform != "win32":
    import fcntl

__all__ = ["claimed", "is_at", "lock", "locked"]

_HELD: ContextVar[frozenset[tuple[int, int]]] = ContextVar("held", default=frozenset())
"""Device and inode of the folders that this thread has claimed."""


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Keep other processes and threads from claiming a folder; who has it may claim it again.

    Yields:
        Whether all others are kept out; not so where there are no locks, or no such folder.

    Raises:
        BundleError: If another one has it.
    """
    try:
        status = folder.stat()
    except OSError:
        yield False  # whoever reads it says what is wrong
        return
    place = (status.st_dev, status.st_ino)
    if place in _HELD.get():
        yield True
        return
    with locked(folder) as is_locked:
        if is_locked is None:
            yield False
            return
        if not is_locked:
            raise BundleError(f"another process is changing {folder}: wait until it is done")
        token = _HELD.set(_HELD.get() | {place})
        try:
            yield True
        finally:
            _HELD.reset(token)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool | None]:
    """Lock a folder, and tell whether that was done; ``None`` where it cannot be."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        is_locked = lock(descriptor)
        yield is_locked and is_at(descriptor, folder)  # another one may have replaced it
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed.

    Returns:
        Whether it is locked now (``False``: by another one), ``None`` where there are no locks.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file or folder is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False

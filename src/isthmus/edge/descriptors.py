"""Descriptors: how many connections the system's limit on open files leaves room for.

It also says, seldom enough, that there was no room after all. It opens and closes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from isthmus.runtime.clock import now_s

try:
    import resource
except ImportError:  # no POSIX
    resource = None  # type: ignore[assignment]

__all__ = ["connections_possible", "telling_of_exhaustion"]

_RESERVED = 64  # files that are open beside connections: models that load, the event loop, logs
_PAUSE_S = 60.0
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("isthmus.edge")


def connections_possible(wanted: int) -> int:
    """Return how many connections may be open at once, and have the system allow them if it will.

    Args:
        wanted: At most so many.
    """
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # then it stays as it was
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        if soft < needed:
            possible = max(1, soft - _RESERVED)
            _log.warning(
                "the system allows %d open files, so at most %d connections are taken and not %d; "
                "raise the limit (ulimit -n)", soft, possible, wanted,
            )  # fmt: skip
            return possible
    return wanted


_Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]


def telling_of_exhaustion() -> _Handler:
    """Return an exception handler for an event loop that has no file left for a new connection.

    Asyncio then waits a second before it takes connections again, but tells of each one that it
    could not take, hundreds a second. This tells once a minute. The rest is told as ever.
    """
    told_at_s = -math.inf

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told_at_s
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _EXHAUSTED and "socket" in context):
            loop.default_exception_handler(context)
        elif now_s() - told_at_s >= _PAUSE_S:
            told_at_s = now_s()
            _log.warning(
                "connections have to wait: %s; raise the limit on open files (ulimit -n) or lower "
                "--max-connections", error.strerror,
            )  # fmt: skip

    return tell

"""ServerWatch: whether the edge server may be asked, and what it has ready.

It sends no inference. After a failure it stays away from the server for a while that doubles from
one second to thirty, and looks again in a thread of its own, so that no request waits for it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping

from isthmus.errors import RemoteError, ServerRefusedError
from isthmus.runtime.clock import now_s
from isthmus.runtime.remote import RemoteServer
from isthmus.runtime.transport import Transport
from isthmus.types.plan import PlanRow
from isthmus.types.variant import Variant

__all__ = ["ServerWatch"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_UNKNOWN_MODEL = (404, 409)


class ServerWatch:
    """Whether the edge server may be asked, and which of its models are known to be missing."""

    def __init__(
        self, transport: Transport, rows: Iterable[PlanRow], variants: Mapping[str, Variant]
    ) -> None:
        """Watch a server; nothing is asked yet.

        Args:
            transport: The way to it, for the watch alone.
            rows: The plans that may be chosen; their tails are what the server should have.
            variants: The networks by name.
        """
        self._transport = transport
        self._remote = RemoteServer(transport)
        self._tails = {row.unit: row for row in rows if row.family == "split"}
        self._variants = variants
        self._missing: dict[str, float] = dict.fromkeys(self._tails, math.inf)
        self._is_available = False
        self._pause_s = _FIRST_PAUSE_S
        self._next_look_at_s = 0.0
        self._looking: threading.Thread | None = None
        self._is_closed = False

    @property
    def is_available(self) -> bool:
        """Whether requests may go to the server; looks again in the background if it is time."""
        is_available = self._is_available
        if (not is_available or self._missing) and now_s() >= self._next_look_at_s:
            self._look_later()
        return is_available

    @property
    def unit_ready_s(self) -> Mapping[str, float]:
        """Seconds until a model is ready, for those that are not; endless if it is missing."""
        return self._missing

    def look(self) -> bool:
        """Ask the server whether it is ready, and have it make the tails that it lacks.

        A tail that the server refuses stays missing; the other plans are not affected.

        Returns:
            Whether requests may go to it.
        """
        missing = dict(self._missing)
        try:
            self._remote.check_ready()
            for unit in tuple(missing):
                if self._is_closed:
                    return False
                row = self._tails[unit]
                try:
                    self._remote.register_tail(row, self._variants[row.variant].graph_sha256)
                except ServerRefusedError as refusal:
                    if refusal.status not in _UNKNOWN_MODEL:
                        raise
                else:
                    del missing[unit]
        except RemoteError:
            self._stay_away()
            return False
        if missing:
            self._stay_away()
        else:
            self._pause_s = _FIRST_PAUSE_S
        self._missing = missing
        self._is_available = True
        return True

    def report(self, failure: RemoteError, unit: str) -> None:
        """Be told that a request to ``unit`` failed.

        A model that the server does not know is asked for again; a request that it refuses for
        another reason says nothing about the next one; anything else keeps requests away from the
        server for a while.
        """
        if isinstance(failure, ServerRefusedError) and failure.status < 500:
            if failure.status in _UNKNOWN_MODEL and unit in self._tails:
                # A server that forgot one tail was restarted and has forgotten them all.
                self._missing = dict.fromkeys(self._tails, math.inf)
                self._look_later()
            return
        self._is_available = False
        self._stay_away()

    def close(self) -> None:
        """Stop looking."""
        self._is_closed = True
        if self._looking is not None:
            self._looking.join()
        self._transport.close()

    def _stay_away(self) -> None:
        self._next_look_at_s = now_s() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _look_later(self) -> None:
        if self._is_closed or (self._looking is not None and self._looking.is_alive()):
            return
        self._looking = threading.Thread(target=self.look, name="isthmus-server-watch", daemon=True)
        self._looking.start()

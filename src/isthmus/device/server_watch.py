"""ServerWatch: whether the edge server may be asked, what it has ready, how it differs from here.

It sends no inference. After a failure it stays away from the server for a while that doubles from
one second to thirty, and looks again in a thread of its own, so that no request waits for it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.device.background import Background
from isthmus.errors import RemoteError, ServerRefusedError
from isthmus.runtime.clock import now_s
from isthmus.runtime.fingerprint import decodes_alike, disagreements, fingerprint
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
        self._variants = variants
        self._lock = threading.Lock()
        self._rows = {row.unit: row for row in rows if row.family == "split"}
        self._missing: Mapping[str, float] = dict.fromkeys(self._rows, math.inf)
        self._is_available = False
        self._failures = 0
        self._metadata: Mapping[str, Any] = {}
        self._decodes_alike = True
        self._pause_s = _FIRST_PAUSE_S
        self._next_look_at_s = 0.0
        self._background = Background("isthmus-server-watch")

    @property
    def is_available(self) -> bool:
        """Whether requests may go to the server; looks again in the background if it is time."""
        is_available = self._is_available
        if (not is_available or self._missing) and now_s() >= self._next_look_at_s:
            self._background.start(self.look)
        return is_available

    @property
    def unit_ready_s(self) -> Mapping[str, float]:
        """Seconds until a model is ready, for those that are not; endless if it is missing."""
        return self._missing

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the server that was last looked at told of itself; empty before."""
        return self._metadata

    @property
    def decodes_alike(self) -> bool:
        """Whether that server makes the same pixels of photographs, as far as it tells."""
        return self._decodes_alike

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Where this device and that server would not answer alike."""
        return disagreements(fingerprint(), self._metadata)

    def look(self) -> bool:
        """Ask the server whether it is ready, and have it make the tails that it lacks.

        What it does not know stays missing; the other plans are not affected.

        Returns:
            Whether requests may go to it.
        """
        is_ready, failures = False, self._failures
        try:
            self._remote.check_ready()
            is_ready = True
            self._metadata = self._remote.metadata()
            self._decodes_alike = decodes_alike(fingerprint(), self._metadata)
            for unit in self._missing:
                if self._background.is_closed:
                    return False
                try:
                    self._fetch(self._rows[unit])
                except ServerRefusedError as refusal:
                    if refusal.status not in _UNKNOWN_MODEL:
                        raise
                else:
                    self._found(unit)
        except RemoteError:
            self._is_available = self._is_available and is_ready
            self._stay_away()
            return False
        with self._lock:
            if self._failures > failures:  # a request failed meanwhile: another look will tell
                return False
            self._is_available = True
            if not self._missing:
                self._pause_s = _FIRST_PAUSE_S
        if self._missing:
            self._stay_away()
        return True

    def report(self, failure: RemoteError, row: PlanRow) -> None:
        """Be told that a request failed.

        A model that the server does not know is left out until it does, and asked for again; a
        request that it refuses for another reason says nothing about the next one; anything else
        keeps requests away from the server for a while.

        Args:
            failure: How.
            row: What was carried out.
        """
        if isinstance(failure, ServerRefusedError) and failure.status < 500:
            if failure.status in _UNKNOWN_MODEL:
                self._forget(row)
                self._background.start(self.look)
            return
        with self._lock:
            self._failures += 1
            self._is_available = False
        self._stay_away()

    def doubt(self) -> None:
        """Be told that an answer did not come by its deadline: look whether the server is there.

        Requests may go on meanwhile. A late answer says more of the link, or of the deadline.
        """
        self._background.start(self.look)

    def close(self) -> None:
        """Stop looking; interrupts a look that has begun."""
        self._background.close(self._transport.abort)
        self._transport.close()

    def _fetch(self, row: PlanRow) -> None:
        """Have the server make a tail; for a whole network, ask whether it knows it meanwhile.

        Raises:
            RemoteError: If it does not.
        """
        if row.family == "split":
            self._remote.register_tail(row, self._variants[row.variant].graph_sha256)
        else:
            self._remote.check_model(row.unit)

    def _found(self, unit: str) -> None:
        with self._lock:
            self._missing = dict.fromkeys(self._missing.keys() - {unit}, math.inf)

    def _forget(self, row: PlanRow) -> None:
        """Take a model to be missing; with a tail all tails, since a restart forgets them all."""
        with self._lock:
            self._rows = {**self._rows, row.unit: row}
            forgotten = [
                unit
                for unit, known in self._rows.items()
                if unit == row.unit or row.family == known.family == "split"
            ]
            self._missing = {**self._missing, **dict.fromkeys(forgotten, math.inf)}

    def _stay_away(self) -> None:
        self._next_look_at_s = now_s() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

"""Connection: uvicorn's HTTP/1.1 connection, with an end to patience and a bound on their number.

Uvicorn waits for ever for the head of a request, for the rest of one that was refused, and for a
client to read its answer. This reads no bodies (``edge.bodies`` bounds those) and answers nothing.
A client that ends its half of the connection is taken to be gone: that is how devices break off.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection", "connections"]


def connections(*, most: int, timeout_s: float) -> type[asyncio.Protocol]:
    """Return what makes connections for uvicorn.

    Args:
        most: Connections at once. One more takes the place of the one that was idle for longest, or
            is answered 503 if none is idle.
        timeout_s: Within this a request's head, the rest of a refused body, and the answer's way
            out each have to be done.
    """
    return cast(type[asyncio.Protocol], partial(Connection, most=most, timeout_s=timeout_s))


class Connection(H11Protocol):
    """One connection of a client."""

    def __init__(self, *arguments: Any, most: int, timeout_s: float, **named: Any) -> None:
        """As uvicorn makes it; ``most`` and ``timeout_s`` as in ``connections``."""
        super().__init__(*arguments, **named)
        self._most = most
        self._timeout_s = timeout_s
        self._deadline: asyncio.TimerHandle | None = None
        self._idle_since_s = self.loop.time()

    @property
    def is_idle(self) -> bool:
        """Whether it has been answered all that it asked, and asks nothing."""
        return self.cycle is not None and not self._is_unfinished and not self._is_working

    @property
    def _is_working(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_unfinished(self) -> bool:
        """Whether the client owes something: a request, its end, or to read its answer."""
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            return self.transport.get_write_buffer_size() > 0
        if self._is_working:
            return False
        is_amid = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        return self.cycle is None or is_amid

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, if there is room."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # so that both ends of a delay are told
        self._watch()
        if len(self.connections) > self._most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._idle_since_s = self.loop.time()
        self._watch()

    def pause_writing(self) -> None:
        """Be told that the client does not read what was sent."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Be told that it has."""
        super().resume_writing()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; in the middle of another answer there is no saying so."""
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _watch(self) -> None:
        """Have the time run exactly while the client owes something."""
        if not self._is_unfinished:
            self._stop_waiting()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._timeout_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._is_unfinished:
            self.transport.abort()

    def _make_room(self) -> None:
        others = [one for one in self.connections if isinstance(one, Connection) and one.is_idle]
        longest = min(others, key=lambda one: one._idle_since_s, default=None)
        if longest is not None:
            longest.timeout_keep_alive_handler()
            return
        text = json.dumps({"error": f"{self._most} connections are open already; try again later"})
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        )
        self.transport.write((head + text).encode())
        self.transport.close()

"""Transport: one HTTP exchange with the server at a time, over one kept connection.

It knows nothing of the messages' content, but for the text of an error, and does not repeat a
request that the server may have begun to work on.
"""

from __future__ import annotations

import http.client
import json
import math
import select
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from isthmus.errors import (
    BadReplyError,
    RemoteTimeoutError,
    ServerRefusedError,
    ServerUnreachableError,
)
from isthmus.runtime.clock import now_s
from isthmus.types.link import INITIAL_WINDOW_BYTES

__all__ = ["Exchange", "HttpTransport", "Transport"]

_REPLY_CHUNK_BYTES = 1 << 16
_ERROR_TEXT_LENGTH = 500
_NEARBY_RATIO = 0.25
"""A connection whose own round trip is less than this part of the link's ends at a relay."""
_TCP_INFO = struct.Struct("@B7x I4xI24xI20xI8xI")
"""State, retransmission time-out, segment, ms since the last was sent, round trip, window."""
_TCP_INFO_LEVEL = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_TCP_ESTABLISHED = 1
_SLOW_START_AFTER_IDLE = Path("/proc/sys/net/ipv4/tcp_slow_start_after_idle")
_NEVER_RESTARTS = b"bbr"


@dataclass(frozen=True)
class Exchange:
    """One request and its reply.

    Attributes:
        headers: The reply's headers, names in lower case.
        body: The reply's body.
        sent_bytes: Bytes written, request line and headers included.
        received_bytes: Bytes of the reply's body.
        connect_s: Time to open the connection; 0 if it was open.
        elapsed_s: First byte written to last byte read, seconds, connecting not included.
    """

    headers: Mapping[str, str]
    body: bytes
    sent_bytes: int
    received_bytes: int
    connect_s: float
    elapsed_s: float


class Transport(Protocol):
    """Something that exchanges messages with one server."""

    @property
    def is_connected(self) -> bool:
        """Whether the next exchange needs no new connection."""

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float,
    ) -> Exchange:
        """Send a request and return the reply.

        Raises:
            ServerUnreachableError: If no connection can be made or it breaks.
            RemoteTimeoutError: If the reply is not complete in time.
            ServerRefusedError: If the reply's status is 4xx or 5xx.
            BadReplyError: If the reply is not HTTP, or of any other status but 2xx.
        """

    def abort(self) -> None:
        """Break off the exchange that another thread waits for; it raises there at once."""

    def close(self) -> None:
        """Close the connection; a later exchange opens a new one."""


class _Wire(socket.socket):
    """A socket whose every call ends at one instant, however often bytes trickle in."""

    until_s = math.inf
    restarts_after_idle = True

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.settimeout(self._left_s())
        super().sendall(data, flags)

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(self._left_s())
        return super().recv_into(*arguments)

    def _left_s(self) -> float:
        left_s = self.until_s - now_s()
        if not left_s > 0:
            raise TimeoutError
        return left_s


class _Connection(http.client.HTTPConnection):
    """An HTTP connection that counts what it writes and gives up at one instant."""

    written_bytes = 0
    until_s = math.inf
    connecting: _Wire | None = None

    def connect(self) -> None:
        """Try each of the host's addresses in turn, all before ``until_s``."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for i, (family, kind, protocol, _, address) in enumerate(found):
            wire = self.connecting = _Wire(family, kind, protocol)
            try:
                wire.settimeout(max(1e-3, self.until_s - now_s()))
                wire.connect(address)
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException as error:
                wire.close()
                if i + 1 == len(found) or not isinstance(error, OSError):
                    raise
            else:
                wire.until_s = self.until_s
                wire.restarts_after_idle = _restarts_after_idle(wire)
                self.sock = wire
                return
            finally:
                self.connecting = None

    def send(self, data: Any) -> None:
        super().send(data)
        self.written_bytes += len(data)

    def limit(self, until_s: float) -> None:
        """Let everything from now on end at ``until_s``."""
        self.until_s = until_s
        if isinstance(self.sock, _Wire):
            self.sock.until_s = until_s


class HttpTransport:
    """A transport over HTTP/1.1 with one kept connection; not for several threads at once."""

    def __init__(self, url: str) -> None:
        """Remember the address; nothing is connected yet.

        Args:
            url: Address of the server, e.g. ``http://edge:8000``; a path is kept as prefix.

        Raises:
            ValueError: If the address is not an ``http`` URL.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", 80 if parts.port is None else parts.port
            host.encode("idna")
        except ValueError as error:  # UnicodeError is one, too
            raise ValueError(f"server address {url!r}: {error}") from error
        is_plain = url.isascii() and url.isprintable() and " " not in url
        has_more = parts.query or parts.fragment or parts.username is not None
        if parts.scheme != "http" or not host or not port or not is_plain or has_more:
            raise ValueError(f"server address {url!r} is not of the form http://host:port")
        self._address = url
        self._prefix = parts.path.rstrip("/")
        self._connection = _Connection(host, port)
        self._tcp_rtt_s = math.inf

    @property
    def was_connected(self) -> bool:
        """Whether a connection was open after the last exchange; costs no system call."""
        return self._connection.sock is not None

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open and the server has not closed it meanwhile."""
        sock = self._connection.sock
        if sock is None:
            return False
        # An idle connection has nothing to read: if it has, it is the server's farewell.
        try:
            return not _has_something_to_read(sock)
        except (ValueError, OSError):  # closed meanwhile
            return False

    def window_bytes(self, rtt_s: float) -> float:
        """Return how much the next request may have under way before it hears of the server.

        It is the connection's congestion window, as small as that of a new connection if there
        is none, and halved for each retransmission time-out of idleness, as Linux does when it
        sends again. Infinite where the system does not tell, or where this connection ends
        nearby: then a relay sends on, over connections that cannot be seen from here.

        Args:
            rtt_s: Round trip to the server, by which a connection that ends nearby is known.

        References:
            RFC 2861 and RFC 5681, section 4.1.
        """
        if _TCP_INFO_LEVEL is None:
            return math.inf
        window_bytes = float(INITIAL_WINDOW_BYTES)
        sock = self._connection.sock
        if isinstance(sock, _Wire):
            try:
                told = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO_LEVEL, _TCP_INFO.size)
                state, timeout_us, segment_bytes, idle_ms, rtt_us, segments = _TCP_INFO.unpack(told)
            except (OSError, struct.error):  # closed meanwhile, or a kernel that tells less
                state = 0
            if state == _TCP_ESTABLISHED:
                self._tcp_rtt_s = rtt_us * 1e-6
                window_bytes = float(segments * segment_bytes)
                if sock.restarts_after_idle and idle_ms * 1000 > timeout_us > 0:
                    halvings = min(idle_ms * 1000 // timeout_us, 64)
                    smallest = min(window_bytes, INITIAL_WINDOW_BYTES)
                    window_bytes = max(window_bytes / 2**halvings, smallest)
        return math.inf if self._tcp_rtt_s < _NEARBY_RATIO * rtt_s else max(window_bytes, 1.0)

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float,
    ) -> Exchange:
        """Send a request and return the reply; see ``Transport.exchange``.

        ``timeout_s`` covers everything but the look-up of the host's name.
        """
        begun_at_s = now_s()
        connection = self._connection
        try:
            with self._named_errors(timeout_s):
                is_connected = self.is_connected
                connection.limit(begun_at_s + timeout_s)
                if not is_connected:
                    connection.close()
                    connection.connect()
                connected_at_s = now_s()
                connection.written_bytes = 0
                is_cut_off: OSError | None = None
                try:
                    connection.request(
                        method,
                        f"{self._prefix}/{path.lstrip('/')}",
                        body=body or None,
                        headers=dict(headers or {}),
                    )
                except (BrokenPipeError, ConnectionResetError) as error:
                    is_cut_off = error  # a server that refuses a request need not read all of it
                with connection.getresponse() as response:
                    reply = _read(response)
                if is_cut_off is not None:
                    connection.close()
                    if response.status < 300:  # it cannot be an answer to half a request
                        raise is_cut_off
                ended_at_s = now_s()
        except BaseException:  # also Ctrl-C: what is half done must not meet the next request
            connection.close()
            raise
        if not 200 <= response.status < 300:
            if response.status < 400:
                connection.close()
                raise BadReplyError(
                    f"{self._address} answered {response.status} {response.reason}, which is "
                    "neither a reply nor an error: is the address right?"
                )
            raise ServerRefusedError(response.status, _error_text(reply) or response.reason)
        return Exchange(
            headers={name.lower(): value for name, value in response.getheaders()},
            body=reply,
            sent_bytes=connection.written_bytes,
            received_bytes=len(reply),
            connect_s=0.0 if is_connected else connected_at_s - begun_at_s,
            elapsed_s=ended_at_s - connected_at_s,
        )

    def close(self) -> None:
        """Close the connection; a later exchange opens a new one."""
        self._connection.close()

    def abort(self) -> None:
        """Break off the exchange that another thread waits for; it raises there at once.

        Only the look-up of the host's name cannot be broken off.
        """
        sock = self._connection.connecting or self._connection.sock
        if sock is not None:
            with suppress(OSError):  # it has ended meanwhile
                sock.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _named_errors(self, timeout_s: float) -> Iterator[None]:
        """Give what sockets and http.client raise the names that ``Transport`` promises."""
        try:
            yield
        except TimeoutError as error:
            raise RemoteTimeoutError(f"no reply from {self._address} in {timeout_s:g} s") from error
        except http.client.IncompleteRead as error:
            raise ServerUnreachableError(f"{self._address}: the reply broke off") from error
        except OSError as error:  # http.client's RemoteDisconnected is one, too
            reason = error.strerror or error
            raise ServerUnreachableError(f"{self._address}: {reason}") from error
        except http.client.HTTPException as error:
            raise BadReplyError(f"{self._address} does not speak HTTP: {error!r}") from error


def _restarts_after_idle(sock: socket.socket) -> bool:
    """Return whether the system narrows this connection's window after it was idle."""
    try:
        control = sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_CONGESTION", -1), 16)
        return not control.startswith(_NEVER_RESTARTS) and (
            _SLOW_START_AFTER_IDLE.read_bytes().strip() != b"0"
        )
    except OSError:
        return True


def _has_something_to_read(sock: socket.socket) -> bool:
    """Return at once whether reading would not block; asked before each decision, so kept short.

    Raises:
        OSError: If the socket is broken.
        ValueError: If it is closed.
    """
    if not hasattr(select, "poll"):
        return bool(select.select([sock], [], [], 0)[0])
    poller = select.poll()  # unlike select, for any descriptor's number
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


def _error_text(reply: bytes) -> str:
    """Return what a reply says went wrong: the ``error`` of a JSON object, or all of it."""
    try:
        content = json.loads(reply)
    except (ValueError, RecursionError):
        content = None
    said = content.get("error") if isinstance(content, dict) else None
    text = said if isinstance(said, str) else reply.decode("utf-8", "replace")
    return text[:_ERROR_TEXT_LENGTH]


def _read(response: http.client.HTTPResponse) -> bytes:
    """Return the reply's body.

    Raises:
        ConnectionResetError: If it ends before the length that was announced.
    """
    chunks = []
    while chunk := response.read1(_REPLY_CHUNK_BYTES):
        chunks.append(chunk)
    if response.length:  # read1() does not complain about what is missing
        raise ConnectionResetError(f"the reply broke off, {response.length} bytes missing")
    return b"".join(chunks)

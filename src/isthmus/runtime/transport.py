"""Transport: one HTTP exchange with the server at a time, over one kept connection.

It knows nothing of the messages' content, and does not repeat a request that the server may have
begun to work on.
"""

from __future__ import annotations

import http.client
import select
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from isthmus.errors import (
    BadReplyError,
    RemoteTimeoutError,
    ServerRefusedError,
    ServerUnreachableError,
)
from isthmus.runtime.clock import now_s

__all__ = ["Exchange", "HttpTransport", "Transport"]

_REPLY_CHUNK_BYTES = 1 << 16
_ERROR_TEXT_LENGTH = 500


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
            ServerRefusedError: If the reply's status is not 2xx.
            BadReplyError: If the reply is not HTTP.
        """

    def close(self) -> None:
        """Close the connection; a later exchange opens a new one."""


class _CountingConnection(http.client.HTTPConnection):
    """An HTTP connection that counts what it writes."""

    written_bytes = 0

    def send(self, data: Any) -> None:
        super().send(data)
        self.written_bytes += len(data)


class HttpTransport:
    """A transport over HTTP/1.1 with one kept connection; not for several threads at once."""

    def __init__(self, url: str) -> None:
        """Remember the address; nothing is connected yet.

        Args:
            url: Address of the server, e.g. ``http://edge:8000``; a path is kept as prefix.

        Raises:
            ValueError: If the address is not an ``http`` URL.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise ValueError(f"server address {url!r}: {error}") from error
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"server address {url!r} is not of the form http://host:port")
        self._prefix = parts.path.rstrip("/")
        self._connection = _CountingConnection(parts.hostname, port or 80)

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open and the server has not closed it meanwhile."""
        sock = self._connection.sock
        if sock is None:
            return False
        # An idle connection has nothing to read: if it has, it is the server's farewell.
        readable, _, _ = select.select([sock], [], [], 0)
        return not readable

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float,
    ) -> Exchange:
        """Send a request and return the reply; see ``Transport.exchange``."""
        begun_at_s = now_s()
        connection = self._connection
        try:
            if not self.is_connected:
                connection.close()
                connection.timeout = timeout_s
                connection.connect()
            connected_at_s = now_s()
            connection.written_bytes = 0
            self._limit(begun_at_s + timeout_s)
            connection.request(
                method,
                f"{self._prefix}/{path.lstrip('/')}",
                body=body or None,
                headers=dict(headers or {}),
            )
            self._limit(begun_at_s + timeout_s)
            response = connection.getresponse()
            reply = self._read(response, begun_at_s + timeout_s)
            ended_at_s = now_s()
        except TimeoutError as error:
            connection.close()
            raise RemoteTimeoutError(f"no reply from {self._address} in {timeout_s:g} s") from error
        except ConnectionError as error:  # http.client's RemoteDisconnected is one, too
            connection.close()
            raise ServerUnreachableError(f"{self._address}: {error}") from error
        except http.client.HTTPException as error:
            connection.close()
            raise BadReplyError(f"{self._address} does not speak HTTP: {error!r}") from error
        except OSError as error:
            connection.close()
            raise ServerUnreachableError(f"{self._address}: {error}") from error
        if not 200 <= response.status < 300:
            text = reply[:_ERROR_TEXT_LENGTH].decode("utf-8", "replace")
            raise ServerRefusedError(response.status, text or response.reason)
        return Exchange(
            headers={name.lower(): value for name, value in response.getheaders()},
            body=reply,
            sent_bytes=connection.written_bytes,
            received_bytes=len(reply),
            connect_s=connected_at_s - begun_at_s,
            elapsed_s=ended_at_s - connected_at_s,
        )

    def close(self) -> None:
        """Close the connection; a later exchange opens a new one."""
        self._connection.close()

    @property
    def _address(self) -> str:
        return f"http://{self._connection.host}:{self._connection.port}"

    def _limit(self, until_s: float) -> None:
        remaining_s = until_s - now_s()
        if remaining_s <= 0:
            raise TimeoutError
        if self._connection.sock is not None:
            self._connection.sock.settimeout(remaining_s)

    def _read(self, response: http.client.HTTPResponse, until_s: float) -> bytes:
        chunks = []
        while chunk := response.read(_REPLY_CHUNK_BYTES):
            chunks.append(chunk)
            self._limit(until_s)
        if response.length:  # read() does not complain about what is missing
            raise ConnectionResetError(f"the reply broke off, {response.length} bytes missing")
        return b"".join(chunks)

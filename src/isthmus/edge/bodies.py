"""Bodies: what all requests together hold in memory, from their first byte until they are answered.

It bounds that, and for how long a client may keep it. It knows no HTTP: chunks come in, a body
comes out. A body whose client has gone while it is worked on is no longer counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isthmus.errors import BodyTooLargeError, BodyTooSlowError, BusyError

__all__ = ["LEAST_PROGRESS_BYTES", "Bodies"]

LEAST_PROGRESS_BYTES = 1 << 16
"""What has to come of a body within each time-out; of a shorter rest, all of it."""


class Bodies:
    """The bodies that the server holds. All methods are the event loop's."""

    def __init__(self, *, limit_bytes: int, timeout_s: float) -> None:
        """Hold none yet.

        Args:
            limit_bytes: Of all bodies together.
            timeout_s: A client that sends less than ``LEAST_PROGRESS_BYTES`` in so long is given
                up.
        """
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that have come of requests that are not answered yet."""
        return self._held_bytes

    @asynccontextmanager
    async def read(
        self, chunks: AsyncIterator[bytes], *, limit_bytes: int
    ) -> AsyncIterator[bytearray]:
        """Read one body, and hold it for as long as the block lasts.

        What a client only announces is not counted: it costs nothing.

        Args:
            chunks: The body as it comes.
            limit_bytes: Largest body.

        Raises:
            BodyTooLargeError: If it is larger.
            BodyTooSlowError: If it does not come.
            BusyError: If all bodies together would be larger than the server's limit.
        """
        body = bytearray()
        try:
            await self._fill(body, chunks, limit_bytes)
            yield body
        finally:
            self._held_bytes -= len(body)

    async def _fill(self, body: bytearray, chunks: AsyncIterator[bytes], limit_bytes: int) -> None:
        now_s = asyncio.get_running_loop().time
        due_bytes = LEAST_PROGRESS_BYTES
        try:
            async with asyncio.timeout(self._timeout_s) as timer:
                async for chunk in chunks:
                    if len(body) + len(chunk) > limit_bytes:
                        raise BodyTooLargeError(f"the body is larger than {limit_bytes} bytes")
                    if self._held_bytes + len(chunk) > self._limit_bytes:
                        raise BusyError(
                            f"requests that are not answered yet hold {self._held_bytes} bytes, "
                            f"of at most {self._limit_bytes}: try again later"
                        )
                    body += chunk
                    self._held_bytes += len(chunk)
                    if len(body) >= due_bytes:
                        due_bytes = len(body) + LEAST_PROGRESS_BYTES
                        timer.reschedule(now_s() + self._timeout_s)
        except TimeoutError as error:
            raise BodyTooSlowError(
                f"{len(body)} bytes of the body came, and less than {LEAST_PROGRESS_BYTES} of them "
                f"in the last {self._timeout_s:g} s"
            ) from error

"""An emulated link: a relay on loopback with a rate and a delay, in a process of its own.

Each direction is one wire. The bytes of all connections follow one another onto it at the rate,
then travel for half a round trip. What the wire cannot take yet stays with the sender.

It does not lose, reorder or jitter, and it does not show what TCP does on a real path: both of
its connections end on loopback, so there is no slow start and connecting costs no round trip.
POSIX only, and at most about 500 connections at a time (``select`` takes descriptors below 1024).
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from isthmus.errors import LabError
from isthmus.lab.link_shape import checked_shape

__all__ = ["ShapedLink"]

_CHUNK_S = 0.002
"""Bytes are moved in chunks of about this time on the wire."""
_QUEUE_S = 0.010
"""How far ahead of the wire bytes are read; a relay that wakes up later than this leaves a gap."""
_POLL_S = 0.0002
"""How long before an arrival sleeping turns into polling."""
_CHUNK_BYTES = (512, 65536)
_SOCKET_BUFFER_BYTES = 16384
_ANSWER_LIMIT_S = 60.0


class ShapedLink:
    """A link to a server with a rate and a round trip, for code that is not asynchronous.

    Use it as a context manager: the relay runs from entering to leaving, and ends by itself
    when this process is gone, however it went.

    Args:
        server: URL or loopback port of the server.
        rate_bits_per_s: Rate of each direction, positive.
        rtt_s: Round trip of a message without size, seconds; half of it each way.
        downlink_bits_per_s: Rate from the server to the client, if it is another one.

    Raises:
        ConditionsError: If a rate or the round trip is impossible.
        LabError: If ``server`` cannot be understood or, on entering, the relay does not start.
    """

    def __init__(
        self,
        server: str | int,
        *,
        rate_bits_per_s: float,
        rtt_s: float,
        downlink_bits_per_s: float | None = None,
    ) -> None:
        self._server = _address(server)
        self._shape = checked_shape(rate_bits_per_s, downlink_bits_per_s, rtt_s)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        ours.settimeout(_ANSWER_LIMIT_S)
        host, port = self._server
        task = {"server": [host, port], "parent": os.getpid(), **self._shape}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), json.dumps(task)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        except OSError as error:
            ours.close()
            raise LabError(f"the link shaper did not start: {error}") from error
        finally:
            theirs.close()
        self._control = ours
        self._answers = ours.makefile("rb")
        try:
            self._port = int(self._answer()["port"])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Loopback port of the near end."""
        return self._port

    @property
    def url(self) -> str:
        """URL of the near end: the server as seen through the link."""
        return f"http://127.0.0.1:{self._port}"

    def set(
        self,
        *,
        rate_bits_per_s: float | None = None,
        rtt_s: float | None = None,
        downlink_bits_per_s: float | None = None,
    ) -> None:
        """Change the link from now on; what is on its way arrives as it would have.

        Args:
            rate_bits_per_s: New rate of both directions.
            rtt_s: New round trip, seconds.
            downlink_bits_per_s: New rate from the server to the client.

        Raises:
            ConditionsError: If a value is impossible.
            LabError: If the relay has ended.
        """
        uplink, downlink, delay = (
            self._shape[key] for key in ("uplink_bytes_per_s", "downlink_bytes_per_s", "delay_s")
        )
        if rate_bits_per_s is None:
            rate_bits_per_s = uplink * 8
            downlink_bits_per_s = (
                downlink * 8 if downlink_bits_per_s is None else downlink_bits_per_s
            )
        rtt_s = 2 * delay if rtt_s is None else rtt_s
        self._shape = checked_shape(rate_bits_per_s, downlink_bits_per_s, rtt_s)
        self._ask({"do": "set", **self._shape})

    def sent_bytes(self) -> int:
        """Return the bytes that went onto the wire towards the server.

        Exact once a client has the reply: what a server answered was counted before.

        Raises:
            LabError: If the relay has ended.
        """
        return int(self._ask({"do": "count"})["up"])

    def received_bytes(self) -> int:
        """Return the bytes that went onto the wire towards the client.

        Raises:
            LabError: If the relay has ended.
        """
        return int(self._ask({"do": "count"})["down"])

    def connections(self) -> int:
        """Return how many connections were accepted so far.

        Raises:
            LabError: If the relay has ended.
        """
        return int(self._ask({"do": "count"})["connections"])

    def close(self) -> None:
        """End the relay and its connections. Closing again does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        self._answers.close()
        self._control.close()
        try:
            process.wait(timeout=_ANSWER_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            if self._process is None:
                raise LabError("the link shaper is not running: use it in a with statement")
            try:
                self._control.sendall(json.dumps(question).encode() + b"\n")
            except OSError as error:
                raise LabError(f"the link shaper has ended: {error}") from error
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._answers.readline()
        except OSError as error:
            raise LabError(f"the link shaper does not answer: {error}") from error
        if not line.endswith(b"\n"):
            raise LabError("the link shaper has ended; its own message is on standard error")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _address(server: str | int) -> tuple[str, int]:
    """Return host and port of a URL, of ``host:port`` or of a loopback port."""
    if isinstance(server, int):
        return "127.0.0.1", server
    try:
        parts = urlsplit(server if "//" in server else f"//{server}")
        host, port = parts.hostname, parts.port or 80
    except ValueError as error:
        raise LabError(f"server {server!r}: {error}") from error
    if not host or parts.scheme not in ("", "http"):
        raise LabError(f"server {server!r} is no URL like http://host:8000")
    return host, port


# What follows runs in the relay's process.


class _Wire:
    """One direction of the link, shared by all connections."""

    def __init__(self) -> None:
        self.bytes_per_s = 1.0
        self.delay_s = 0.0
        self.carried_bytes = 0
        self._free_at_s = 0.0
        self._turn = asyncio.Lock()

    @property
    def chunk_bytes(self) -> int:
        low, high = _CHUNK_BYTES
        return min(max(int(self.bytes_per_s * _CHUNK_S), low), high)

    async def carry(self, size_bytes: int) -> float:
        """Put bytes onto the wire after those before them; return when they arrive (loop time).

        The wire's time is kept by adding up sizes, not by sleeping, so that late wake-ups do
        not slow it down. Returns early by ``_QUEUE_S`` at most.
        """
        clock = asyncio.get_running_loop().time
        async with self._turn:
            early_s = self._free_at_s - clock() - _QUEUE_S
            if early_s > 0:
                await asyncio.sleep(early_s)
            self._free_at_s = max(clock(), self._free_at_s) + size_bytes / self.bytes_per_s
            self.carried_bytes += size_bytes
            return self._free_at_s + self.delay_s


async def _until(instant_s: float) -> None:
    """Sleep until an instant of the loop's clock; polls at last, since wake-ups are late."""
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(instant_s - clock() - _POLL_S)
    while clock() < instant_s:
        await asyncio.sleep(0)


async def _pump(source: socket.socket, target: socket.socket, wire: _Wire) -> None:
    """Carry bytes from ``source`` to ``target`` until ``source`` ends and all has arrived."""
    loop = asyncio.get_running_loop()
    arrivals: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    delivering = asyncio.Lock()

    async def deliver() -> None:
        while True:
            arrives_at_s, data = await arrivals.get()
            await _until(arrives_at_s)
            if not data:
                return
            async with delivering:
                await loop.sock_sendall(target, data)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(deliver())
        while data := await loop.sock_recv(source, wire.chunk_bytes):
            async with delivering:  # a target that does not read stops its source too
                pass
            arrivals.put_nowait((await wire.carry(len(data)), data))
        arrivals.put_nowait((loop.time() + wire.delay_s, b""))


@dataclass
class _Relay:
    """The relay: its two wires, and how many connections they carried."""

    server: tuple[str, int]
    up: _Wire
    down: _Wire
    connections: int = 0

    def shape(self, values: dict[str, Any]) -> None:
        self.up.bytes_per_s = values["uplink_bytes_per_s"]
        self.down.bytes_per_s = values["downlink_bytes_per_s"]
        self.up.delay_s = self.down.delay_s = values["delay_s"]

    async def accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        running: set[asyncio.Task[None]] = set()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.connections += 1
            task = asyncio.create_task(self._join(client))
            running.add(task)
            task.add_done_callback(running.discard)

    async def _join(self, client: socket.socket) -> None:
        """Relay one connection until the server ends it or either side breaks it."""
        server: socket.socket | None = None
        pumps: list[asyncio.Task[None]] = []
        try:
            server = await self._connect()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            up = asyncio.create_task(_pump(client, server, self.up))
            down = asyncio.create_task(_pump(server, client, self.down))
            pumps = [up, down]
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if down not in done:
                await up
                server.shutdown(socket.SHUT_WR)
            await down
        except* OSError:
            for end in (client, server):
                if end is not None:
                    _reset_on_close(end)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            client.close()
            if server is not None:
                server.close()

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        host, port = self.server
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        server = socket.socket(family, kind, protocol)
        try:
            server.setblocking(False)
            _tune(server)
            await loop.sock_connect(server, address)
        except BaseException:
            server.close()
            raise
        return server

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        if question["do"] == "set":
            self.shape(question)
        return {
            "up": self.up.carried_bytes,
            "down": self.down.carried_bytes,
            "connections": self.connections,
        }


def _tune(end: socket.socket) -> None:
    """Keep the kernel from swallowing what the wire has not carried yet."""
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)


def _reset_on_close(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def _serve(control: socket.socket, task: dict[str, Any]) -> None:
    """Relay until the control connection ends, or the parent that holds it is gone."""
    host, port = task["server"]
    relay = _Relay((host, port), _Wire(), _Wire())
    relay.shape(task)
    with socket.socket() as listener:
        _tune(listener)  # before listening: accepted sockets inherit it
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        listener.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=control)
        writer.write(json.dumps({"port": listener.getsockname()[1]}).encode() + b"\n")
        work = (
            relay.accept(listener),
            _answer_questions(relay, reader, writer),
            _orphaned(task["parent"]),
        )
        await asyncio.wait(map(asyncio.create_task, work), return_when=asyncio.FIRST_COMPLETED)
        # Sockets may only be closed when nobody waits for them any more.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for waiting in rest:
            waiting.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def _answer_questions(
    relay: _Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while line := await reader.readline():
        writer.write(json.dumps(relay.answer(json.loads(line))).encode() + b"\n")


async def _orphaned(parent: int) -> None:
    """Return when the parent is gone; a forked sibling may hold its control connection open."""
    while os.getppid() == parent:
        await asyncio.sleep(1.0)


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes us
    control = socket.socket(fileno=int(sys.argv[1]))
    # epoll rounds its timeouts up to whole milliseconds; select does not.
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        runner.run(_serve(control, json.loads(sys.argv[2])))


if __name__ == "__main__":
    _main()

"""The two ends of the transfer study: a server that only answers, and a device that asks.

Both are processes of their own on a real bed. The device uses the project's own transport and
predicts before each exchange; it compares nothing (``transfer_scores`` does).
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Literal

from isthmus.estimation.transfer import exchange_s
from isthmus.runtime.transport import HttpTransport
from isthmus.types.link import Link

__all__ = ["READY", "REPLY_BYTES", "State", "Transfer", "device_command", "server_command"]

State = Literal["new", "idle", "warm"]

READY = b"ready\n"
REPLY_BYTES = 1000
"""Size of a reply, without its header; about that of a thousand classes' best."""

_PORT = 9000
_IDLE_S = 0.7
_TIMEOUT_S = 60.0
_HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {REPLY_BYTES}\r\n\r\n".encode()


@dataclass(frozen=True)
class Transfer:
    """One exchange and what was predicted of it.

    Attributes:
        state: The connection's: not there (``new``), unused for 0.7 s (``idle``), or just used by
            an exchange of the same size (``warm``).
        sent_bytes: Request, its header included.
        received_bytes: Reply, its header included.
        window_bytes: What the transport said before that it may send at once.
        elapsed_s: Connecting included, seconds.
        rounds_s: Predicted by TCP's rounds.
    """

    state: State
    sent_bytes: int
    received_bytes: int
    window_bytes: float
    elapsed_s: float
    rounds_s: float


def server_command(address: str) -> list[str]:
    """Return the command of the server; it prints ``READY`` when it listens."""
    return [sys.executable, "-m", __name__, "server", address]


def device_command(address: str, link: Link, steps: list[tuple[State, int]]) -> list[str]:
    """Return the command of the device; it prints a ``Transfer`` as a line of JSON for each step.

    Args:
        address: The server's.
        link: The true link, by which it predicts.
        steps: State of the connection and bytes of the request's body.
    """
    task = {"address": address, "link": asdict(link), "steps": steps}
    return [sys.executable, "-m", __name__, "device", json.dumps(task)]


def _serve(address: str) -> None:
    """Answer every request as soon as it has arrived."""
    with socket.create_server((address, _PORT)) as listener:
        sys.stdout.buffer.write(READY)
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reply = _HEAD + bytes(REPLY_BYTES)
    with connection, connection.makefile("rb") as stream:
        while stream.readline():
            left = 0
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                left = int(value) if name.lower() == b"content-length" else left
            while left:
                chunk = stream.read1(min(left, 1 << 16))
                if not chunk:  # the device has given up
                    return
                left -= len(chunk)
            connection.sendall(reply)


def _ask(address: str, link: Link, steps: list[tuple[State, int]]) -> None:
    """Make all exchanges, and print each."""
    transport = HttpTransport(f"http://{address}:{_PORT}")

    def exchange(size_bytes: int) -> tuple[int, float]:
        made = transport.exchange("POST", "/", body=bytes(size_bytes), timeout_s=_TIMEOUT_S)
        return made.sent_bytes, made.connect_s + made.elapsed_s

    exchange(1)
    for state, size_bytes in steps:
        if state == "new":
            transport.close()
        else:
            exchange(size_bytes)
            time.sleep(_IDLE_S if state == "idle" else 0.0)
        window_bytes = transport.window_bytes(link.rtt_s)
        is_connected = transport.is_connected
        sent_bytes, elapsed_s = exchange(size_bytes)
        received_bytes = len(_HEAD) + REPLY_BYTES
        rounds_s = exchange_s(
            link,
            sent_bytes=sent_bytes,
            received_bytes=received_bytes,
            is_connected=is_connected,
            window_bytes=window_bytes,
        )
        made = Transfer(state, sent_bytes, received_bytes, window_bytes, elapsed_s, rounds_s)
        print(json.dumps(asdict(made)), flush=True)  # noqa: T201
    transport.close()


def _main(end: str, task: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    if end == "server":
        _serve(task)
    else:
        values = json.loads(task)
        _ask(values["address"], Link(**values["link"]), values["steps"])


if __name__ == "__main__":
    _main(*sys.argv[1:])

"""Some of the recorded requests made for real: work, an emulated link, and work behind it.

The device works as long as it is slow (this machine's time, and idling for the rest), the link is a
relay with the request's own rate and round trip, the server decodes. It only tells how long that
took.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.lab.emulation import SlowedPace
from isthmus.lab.shaper import ShapedLink
from isthmus.lab.studies.pieslicer_bed import Cell, Requests
from isthmus.lab.studies.pieslicer_measure import FILE, ON_DEVICE, prepare, receive
from isthmus.types.progress import SILENT, Progress

__all__ = ["Checked", "check"]

_HEAD = struct.Struct(">BQ")  # placement, bytes
_DONE = b"\x01"
_TIMEOUT_S = 120.0
_AT_ONCE = 6


@dataclass(frozen=True)
class Checked:
    """One request in one placement.

    Attributes:
        cell: Name of the cell.
        placement: Of ``PLACEMENTS``.
        recorded_s: Seconds on virtual time.
        observed_s: Seconds that it took.
    """

    cell: str
    placement: int
    recorded_s: float
    observed_s: float

    @property
    def error_ratio(self) -> float:
        """How far apart both are, of what was observed."""
        return abs(self.recorded_s - self.observed_s) / self.observed_s


def check(
    bed: Sequence[tuple[Cell, Requests]],
    photographs: Sequence[Path],
    *,
    share: float,
    seed: int,
    progress: Progress = SILENT,
) -> tuple[Checked, ...]:
    """Make a share of all photographs, both placements, devices and networks happen.

    Args:
        bed: Cells, each with at least one request about every photograph.
        photographs: The files.
        share: Of all, 0 to 1; at least one of each cell.
        seed: Of which.
        progress: Told about each.

    Raises:
        LabError: If the relay does not start.
        OSError: If a connection breaks.
    """
    rng = np.random.default_rng(seed)
    count = max(1, round(share * 2 * len(photographs)))
    chosen = [rng.choice(2 * len(photographs), count, replace=False) for _ in bed]
    progress.begin("checked for real", count * len(bed))
    connections = _Connections()
    with _server() as port, ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [
            pool.submit(
                _check_cell,
                cell,
                requests,
                photographs,
                picks.tolist(),
                port=port,
                connections=connections,
                progress=progress,
            )
            for (cell, requests), picks in zip(bed, chosen, strict=True)
        ]
        try:
            return tuple(one for job in jobs for one in job.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            connections.break_off()  # or the rest of a photograph would be waited for
            raise


class _Connections:
    """Connections that are broken off together, those that open later at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._broken_off = False

    def add(self, connection: socket.socket) -> None:
        with self._lock:
            if self._broken_off:
                raise ConnectionAbortedError("the check has been broken off")
            self._open.append(connection)

    def break_off(self) -> None:
        with self._lock:
            self._broken_off = True
            for connection in self._open:
                with suppress(OSError):  # closed since
                    connection.shutdown(socket.SHUT_RDWR)


def _check_cell(
    cell: Cell,
    requests: Requests,
    photographs: Sequence[Path],
    picks: Sequence[int],
    *,
    port: int,
    connections: _Connections,
    progress: Progress,
) -> list[Checked]:
    """Make the picked requests of one cell, over a connection that can be broken off."""
    found = []
    with (
        ShapedLink(port, rate_bits_per_s=1e9, rtt_s=0.0) as link,
        socket.create_connection(("127.0.0.1", link.port), timeout=_TIMEOUT_S) as connection,
    ):
        connections.add(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pick in picks:
            number, is_device = divmod(pick, 2)
            placement = ON_DEVICE if is_device else FILE
            row = int(np.flatnonzero(requests.photograph == number)[0])
            link.set(
                rate_bits_per_s=8 / (cell.link.s_per_byte * float(requests.per_byte[row])),
                rtt_s=cell.link.constant_s * float(requests.per_message[row]),
            )
            data = photographs[number].read_bytes()
            begun_at_s = time.perf_counter()
            crossing = prepare(data, placement)
            if placement != FILE:
                SlowedPace(cell.slowdown).after(time.perf_counter() - begun_at_s)
                time.sleep(cell.overhead_s)
            connection.sendall(_HEAD.pack(placement, len(crossing)) + crossing)
            if connection.recv(1) != _DONE:
                raise ConnectionError("the server of the check has ended")
            observed_s = time.perf_counter() - begun_at_s
            recorded_s = float(requests.total_s[row, placement])
            found.append(Checked(cell.name, placement, recorded_s, observed_s))
            progress.advance(cell.name)
    return found


@contextmanager
def _server() -> Iterator[int]:
    """Yield the port of a server that makes inputs of what it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(OSError):  # closing alone does not wake up who waits in accept()
                listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket) -> None:
    with suppress(OSError):  # closed
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with suppress(ConnectionError), connection, connection.makefile("rb") as stream:
        while len(head := stream.read(_HEAD.size)) == _HEAD.size:
            placement, size_bytes = _HEAD.unpack(head)
            data = stream.read(size_bytes)
            if len(data) < size_bytes:  # the device has given up
                return
            receive(data, placement)
            connection.sendall(_DONE)

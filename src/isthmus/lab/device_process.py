"""The device's side of the demo in a process of its own, on a real bed, under its CPU quota.

Starting, opening devices and loading networks go at full speed, because no request waits for
them; profiling and requests are under the quota. Messages between the two processes are pickles
over a socket pair that nobody else can reach.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, Self

from isthmus.errors import IsthmusError, LabError
from isthmus.lab.device_side import Ask, Devices, DevicesHere, ProfileTask
from isthmus.lab.real_bed import RealBed
from isthmus.runtime.clock import FULL_PACE
from isthmus.types.outcome import Outcome
from isthmus.types.plan import Rules
from isthmus.types.progress import Progress

__all__ = ["DeviceProcess"]

_SETTLE_S = 0.025
"""Before a request: what the last one's reply has used of the quota is granted again by then."""


class DeviceProcess:
    """A ``DeviceSide`` on a real bed; a context manager.

    Args:
        bed: Entered before.
        cpu_ratio: The device's share of one processor.
    """

    def __init__(self, bed: RealBed, cpu_ratio: float) -> None:
        self._bed = bed
        self._cpu_ratio = cpu_ratio

    def __enter__(self) -> Self:
        """Start the process.

        Raises:
            LabError: If it does not start.
        """
        self._bed.set_device_cpu(1.0)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = self._bed.start(
                "device",
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        self._connection = Connection(ours.detach())
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        self._process.wait()

    def profile(self, task: ProfileTask, progress: Progress) -> None:
        """Profile a bundle there."""
        self._bed.set_device_cpu(self._cpu_ratio)
        self._told("profile", task, progress=progress)

    @contextmanager
    def opened(self, devices: Devices) -> Iterator[Ask]:
        """Open devices there while the block runs."""
        self._bed.set_device_cpu(1.0)
        self._told("open", devices)
        self._bed.set_device_cpu(self._cpu_ratio)

        def ask(device: str, photograph: str, rules: Rules) -> tuple[float, Outcome | None]:
            time.sleep(_SETTLE_S)
            answer: tuple[float, Outcome | None] = self._told("ask", device, photograph, rules)
            return answer

        try:
            yield ask
        finally:
            self._bed.set_device_cpu(1.0)
        self._told("close")

    def _told(self, what: str, *arguments: Any, progress: Progress | None = None) -> Any:
        """Have the process do something, and return what it answers."""
        try:
            self._connection.send((what, arguments))
            while True:
                kind, values = self._connection.recv()
                if kind == "answer":
                    return values
                if kind == "error":
                    raise LabError(f"the device's process: {values}")
                if progress is not None:
                    getattr(progress, kind)(*values)
        except (EOFError, OSError) as error:
            raise LabError("the device's process has ended; see standard error") from error


class _ToldProgress:
    """Tells the other process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, task: str, steps: int) -> None:
        self._connection.send(("begin", (task, steps)))

    def advance(self, detail: str = "") -> None:
        self._connection.send(("advance", (detail,)))


class _Told:
    """Does what the other process says."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._here = DevicesHere(FULL_PACE)
        self._stack = ExitStack()

    def serve(self) -> None:
        """Do one thing after the other until the connection ends."""
        while True:
            try:
                what, arguments = self._connection.recv()
            except EOFError:
                return
            self._answer(what, arguments)

    def _answer(self, what: str, arguments: tuple[Any, ...]) -> None:
        try:
            answer = getattr(self, f"_{what}")(*arguments)
        except IsthmusError as error:
            self._connection.send(("error", f"{type(error).__name__}: {error}"))
        else:
            self._connection.send(("answer", answer))

    def _profile(self, task: ProfileTask) -> None:
        self._here.profile(task, _ToldProgress(self._connection))

    def _open(self, devices: Devices) -> None:
        self._ask = self._stack.enter_context(self._here.opened(devices))

    def _close(self) -> None:
        self._stack.close()


if __name__ == "__main__":
    _Told(Connection(int(sys.argv[1]))).serve()

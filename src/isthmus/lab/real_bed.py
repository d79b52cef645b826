"""A real bed: device and server in network namespaces of their own, real TCP between them.

Between the namespaces is a pipe with a rate and a delay (``real_bed_pipe``); the device's processes
share one processor's quota (``real_bed_quota``). Both are limits that the kernel enforces, and
nothing is emulated: slow start, losses of a full queue and connecting cost what they cost. It
needs Linux and root; ``missing`` says what else. All that it makes is gone when it ends, also by
Ctrl-C; after a crash only an empty cgroup is left, which the next bed removes. It changes nothing
outside of what it made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from isthmus.errors import LabError
from isthmus.lab import real_bed_start
from isthmus.lab.link_shape import checked_shape
from isthmus.lab.real_bed_pipe import DEVICE_ADDRESS, SERVER_ADDRESS
from isthmus.lab.real_bed_quota import CpuQuota, controller

__all__ = ["PipeCounts", "RealBed", "Side", "missing"]

Side = Literal["device", "server"]

_ANSWER_LIMIT_S = 60.0
_END_LIMIT_S = 10.0
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}


@dataclass(frozen=True)
class PipeCounts:
    """What the pipe has carried and dropped so far, by direction; packets' headers included."""

    uplink_bytes: int
    downlink_bytes: int
    uplink_dropped: int
    downlink_dropped: int


def missing() -> str:
    """Return why a real bed is impossible here, naming what is not there; "" if it is possible."""
    if not sys.platform.startswith("linux"):
        return "real limits need Linux"
    if os.geteuid() != 0:
        return "real limits need root (sudo)"
    held = _capabilities()
    for name, bit in _CAPABILITIES.items():
        if not held >> bit & 1:
            return f"real limits need the capability {name}, which this container's root lacks"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "real limits need /dev/net/tun (modprobe tun; in a container --device /dev/net/tun)"
    if shutil.which("ip") is None:
        return "real limits need the command ip (package iproute2)"
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
    if not available.exists() or "cubic" not in available.read_text().split():
        return "real limits need TCP's congestion control cubic (modprobe tcp_cubic)"
    if controller() is None:
        return "real limits need write access to the cgroup controller cpu (v1 or v2)"
    return ""


class RealBed:
    """Two namespaces, a pipe between them and a CPU quota; a context manager.

    Start processes with ``start``; those on the device's side share its quota and one processor.

    Attributes:
        server_address: IPv4 address of the server's side, as the device sees it.
        device_address: The same of the device's side.

    Examples:
        ::

            with RealBed(uplink_bits_per_s=16e6, rtt_s=0.02, device_cpu_ratio=0.1) as bed:
                bed.start("server", ["iperf3", "-s"])
                bed.start("device", ["iperf3", "-c", bed.server_address]).wait()
    """

    server_address = SERVER_ADDRESS
    device_address = DEVICE_ADDRESS

    def __init__(
        self,
        *,
        uplink_bits_per_s: float,
        rtt_s: float,
        downlink_bits_per_s: float | None = None,
        device_cpu_ratio: float = 1.0,
    ) -> None:
        """Remember the limits; nothing is made yet.

        Args:
            uplink_bits_per_s: Rate from the device to the server, counted over whole IP packets:
                full ones of 1500 bytes carry 1448 bytes of TCP's data.
            rtt_s: Round trip of a message without size, seconds; half of it each way.
            downlink_bits_per_s: Rate from the server to the device, if it is another one.
            device_cpu_ratio: The device's share of one processor, above 0 and at most 1.

        Raises:
            ConditionsError: If one of them is impossible.
        """
        self._shape = checked_shape(uplink_bits_per_s, downlink_bits_per_s, rtt_s)
        self._quota = CpuQuota(device_cpu_ratio)
        self._stack = ExitStack()
        self._started: list[subprocess.Popen[Any]] = []
        self._control: socket.socket | None = None
        self._networks: dict[Side, str] = {}

    def __enter__(self) -> Self:
        """Make the namespaces, the pipe and the quota.

        Raises:
            LabError: If they are impossible here; it says why.
        """
        if reason := missing():
            raise LabError(reason)
        with ExitStack() as stack:
            stack.enter_context(self._quota)
            self._start_pipe(stack)
            stack.callback(self._end_started)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes on both sides, and remove all that was made."""
        self._stack.close()

    def command(self, side: Side, command: Sequence[str]) -> list[str]:
        """Return the command that runs ``command`` on one side, for those who start it themselves.

        It ends when the thread that starts it does.

        Raises:
            LabError: If the bed was not entered.
        """
        if self._control is None:
            raise LabError("the real bed is not there: use it in a with statement")
        is_device = side == "device"
        cgroup = str(self._quota.path) if is_device else ""
        processor = str(self._quota.processor) if is_device else ""
        start = [sys.executable, "-I", "-S", real_bed_start.__file__]
        return [*start, self._networks[side], cgroup, processor, *command]

    def start(self, side: Side, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a process on one side; it is ended when the bed is left.

        Args:
            side: Where.
            command: Program and arguments.
            options: As for ``subprocess.Popen``.
        """
        process = subprocess.Popen(self.command(side, command), **options)
        self._started.append(process)
        return process

    def set_link(
        self,
        *,
        uplink_bits_per_s: float,
        rtt_s: float,
        downlink_bits_per_s: float | None = None,
    ) -> None:
        """Change the link from now on; what is under way arrives as it would have.

        Raises:
            ConditionsError: If a value is impossible.
            LabError: If the pipe has ended.
        """
        self._ask(checked_shape(uplink_bits_per_s, downlink_bits_per_s, rtt_s))

    def set_device_cpu(self, ratio: float) -> None:
        """Change the device's share of its processor from now on.

        Raises:
            ConditionsError: If the share is impossible.
            LabError: If the kernel refuses.
        """
        self._quota.set(ratio)

    def counts(self) -> PipeCounts:
        """Return what the pipe has carried and dropped so far.

        Raises:
            LabError: If the pipe has ended.
        """
        return PipeCounts(**self._ask({}))

    def _start_pipe(self, stack: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        ours.settimeout(_ANSWER_LIMIT_S)
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "isthmus.lab.real_bed_pipe"),
                    *(str(theirs.fileno()), json.dumps(self._shape)),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        stack.callback(self._end_pipe, process, ours)
        self._control = ours
        ready = self._answer()
        for side in ("device", "server"):
            self._networks[side] = f"/proc/{ready['pid']}/fd/{ready[side]}"

    def _end_pipe(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._control = None
        control.close()
        _end(process)

    def _end_started(self) -> None:
        for process in self._started:
            with contextlib.suppress(OSError):
                process.terminate()
        for process in self._started:
            _end(process)
        self._started.clear()

    def _ask(self, question: dict[str, float]) -> dict[str, Any]:
        if self._control is None:
            raise LabError("the real bed is not there: use it in a with statement")
        try:
            self._control.sendall(json.dumps(question).encode())
        except OSError as error:
            raise LabError(f"the pipe has ended: {error}") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._control is not None
        line = b""
        try:
            while not line.endswith(b"\n"):
                received = self._control.recv(4096)
                if not received:
                    raise LabError("the pipe has ended; its own message is on standard error")
                line += received
        except OSError as error:
            raise LabError(f"the pipe does not answer: {error}") from error
        answer: dict[str, Any] = json.loads(line)
        return answer


def _end(process: subprocess.Popen[Any]) -> None:
    """Wait for a process that was told to end; by force if it does not."""
    try:
        process.wait(_END_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("CapEff:")).split()[1], 16)

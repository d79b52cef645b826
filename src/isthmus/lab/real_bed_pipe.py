"""The pipe of a real bed: two network namespaces, and the wire between them, in user space.

Each direction carries one packet after the other at its rate, after a queue that drops what does
not fit (drop-tail), and delivers each half a round trip later. TCP runs from end to end through the
kernel: it sees a real round trip, a real queue and real losses. Packets are of 1500 bytes and no
offloading joins them, so that the first window has its usual 10 segments. It adds no jitter and
no loss but the queue's, and starts no process. It runs as a process of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.lab.real_bed_start import enter_network, new_network
from isthmus.lab.real_bed_ticks import be_urgent

__all__ = ["DEVICE_ADDRESS", "LEAST_QUEUE_BYTES", "MTU_BYTES", "QUEUE_S", "SERVER_ADDRESS"]

DEVICE_ADDRESS, SERVER_ADDRESS = "10.77.0.1", "10.77.0.2"
MTU_BYTES = 1500
QUEUE_S = 0.1
"""Length of the queue in time on the wire, as in a good home router."""
LEAST_QUEUE_BYTES = 32 * MTU_BYTES
"""Least length of the queue; at 1 Mbit/s it is 0.38 s."""

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000
_INTERFACE = "bed0"
_CONGESTION_CONTROL = "cubic"
_BATCH = 64
_SETTINGS = {
    "ipv4/tcp_no_metrics_save": "1",  # no connection knows what an earlier one learned
    "ipv6/conf/all/disable_ipv6": "1",  # no packets but ours
}


@dataclass
class _Lane:
    """One direction: packets from one end to the other, at a rate, after a delay."""

    source: int
    target: int
    bytes_per_s: float = 1.0
    delay_s: float = 0.0
    queue_s: float = 0.0
    carried_bytes: int = 0
    dropped: int = 0
    _free_at_s: float = 0.0
    _under_way: deque[tuple[float, bytes]] = field(default_factory=deque)

    @property
    def due_at_s(self) -> float:
        """When the next packet arrives; infinite if none is under way."""
        return self._under_way[0][0] if self._under_way else float("inf")

    def shape(self, bytes_per_s: float, delay_s: float) -> None:
        """Change rate and delay; what is under way arrives as it would have."""
        self.bytes_per_s, self.delay_s = bytes_per_s, delay_s
        self.queue_s = max(QUEUE_S, LEAST_QUEUE_BYTES / bytes_per_s)

    def take(self) -> None:
        """Take what the source has sent; the wire's time is kept by adding up sizes."""
        for _ in range(_BATCH):
            try:
                packet = os.read(self.source, 2 * MTU_BYTES)
            except BlockingIOError:
                return
            now_s = time.monotonic()
            starts_at_s = max(now_s, self._free_at_s)
            ends_at_s = starts_at_s + len(packet) / self.bytes_per_s
            if ends_at_s - now_s > self.queue_s:
                self.dropped += 1
                continue
            self._free_at_s = ends_at_s
            self.carried_bytes += len(packet)
            arrives_at_s = ends_at_s + self.delay_s
            if self._under_way:
                arrives_at_s = max(arrives_at_s, self._under_way[-1][0])
            self._under_way.append((arrives_at_s, packet))

    def deliver(self) -> None:
        """Hand over all packets that have arrived."""
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            with contextlib.suppress(BlockingIOError):
                os.write(self.target, self._under_way.popleft()[1])


def _make_end(address: str, other: str) -> tuple[int, int]:
    """Enter a new namespace, make its end of the pipe, and return both descriptors.

    The congestion control is pinned by the route, because the kernel lets a namespace choose as
    its default only what the whole machine allows.
    """
    network = new_network()
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    request = struct.pack("16sH", _INTERFACE.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(end, _TUNSETIFF, request)
    for name, value in _SETTINGS.items():
        path = Path("/proc/sys/net") / name
        if path.exists():  # a kernel without IPv6 needs no setting
            path.write_text(value)
    for command in (
        "link set lo up",
        f"addr add {address}/32 dev {_INTERFACE}",
        f"link set {_INTERFACE} mtu {MTU_BYTES} up",
        f"route add {other}/32 dev {_INTERFACE} congctl {_CONGESTION_CONTROL}",
    ):
        subprocess.run(["ip", *command.split()], check=True, stdin=subprocess.DEVNULL)
    return network, end


def _carry(up: _Lane, down: _Lane, control: socket.socket) -> None:
    """Carry packets and answer questions until the control connection ends."""
    lanes = {up.source: up, down.source: down}
    watched = [*lanes, control.fileno()]
    while True:
        wait_s = min(up.due_at_s, down.due_at_s) - time.monotonic()
        timeout_s = None if wait_s == float("inf") else max(wait_s, 0.0)
        ready = select.select(watched, [], [], timeout_s)[0]
        for descriptor in ready:
            if descriptor in lanes:
                lanes[descriptor].take()
            elif not _answer(up, down, control):
                return
        up.deliver()
        down.deliver()


def _answer(up: _Lane, down: _Lane, control: socket.socket) -> bool:
    """Answer one question; return whether there was one."""
    question = control.recv(4096)  # the other side waits for each answer, so it comes alone
    if not question:
        return False
    _shape(up, down, json.loads(question))
    answer = {
        "uplink_bytes": up.carried_bytes,
        "downlink_bytes": down.carried_bytes,
        "uplink_dropped": up.dropped,
        "downlink_dropped": down.dropped,
    }
    control.sendall(json.dumps(answer).encode() + b"\n")
    return True


def _shape(up: _Lane, down: _Lane, values: dict[str, Any]) -> None:
    if values:
        up.shape(values["uplink_bytes_per_s"], values["delay_s"])
        down.shape(values["downlink_bytes_per_s"], values["delay_s"])


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes us
    control = socket.socket(fileno=int(sys.argv[1]))
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    device, device_end = _make_end(DEVICE_ADDRESS, SERVER_ADDRESS)
    server, server_end = _make_end(SERVER_ADDRESS, DEVICE_ADDRESS)
    enter_network(home)
    up, down = _Lane(device_end, server_end), _Lane(server_end, device_end)
    _shape(up, down, json.loads(sys.argv[2]))
    be_urgent()
    ready = {"pid": os.getpid(), "device": device, "server": server}
    control.sendall(json.dumps(ready).encode() + b"\n")
    _carry(up, down, control)


if __name__ == "__main__":
    _main()

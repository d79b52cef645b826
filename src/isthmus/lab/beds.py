"""Beds: what the demo runs on. Each has an edge server, a device that is slower, and links.

On the emulated bed the device is slowed by idling and the link is a relay, so that it runs
everywhere. On the real one the kernel enforces the limits. Neither decides or compares anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from isthmus.lab.device_process import DeviceProcess
from isthmus.lab.device_side import DevicesHere, DeviceSide
from isthmus.lab.emulation import SlowedPace
from isthmus.lab.real_bed import RealBed
from isthmus.lab.server_process import ServerProcess
from isthmus.lab.shaper import ShapedLink

__all__ = ["Bed", "BedKind", "EmulatedBed", "LimitedBed", "bed_of"]

BedKind = Literal["emulated", "real"]

_DIRECT_BITS_PER_S, _DIRECT_RTT_S = 200e6, 0.001


class Bed(Protocol):
    """An edge server, a slower device and a link between them that can be chosen."""

    @property
    def kind(self) -> BedKind:
        """Whether its limits are emulated or real."""

    @property
    def conditions(self) -> Mapping[str, Any]:
        """What a profile made here depends on, as JSON values."""

    @property
    def device(self) -> DeviceSide:
        """The device's side."""

    @property
    def server(self) -> ServerProcess:
        """The edge server's process."""

    def direct(self) -> AbstractContextManager[str]:
        """Join the two by a link that limits nothing; the server's address for the device."""

    def link(self, *, rate_bits_per_s: float, rtt_s: float) -> AbstractContextManager[str]:
        """Join the two by a link; the server's address for the device."""


class EmulatedBed:
    """A device slowed by idling in this process, and a relay; a context manager.

    Args:
        models: Folder that the server serves.
        threads: Threads of one inference on either side.
        device_slowdown: How many times slower than this machine the device is.
    """

    kind: BedKind = "emulated"

    def __init__(self, models: Path, *, threads: int, device_slowdown: float) -> None:
        self.conditions = {
            "bed": self.kind,
            "device_slowdown": device_slowdown,
            "threads": threads,
        }
        self.device = DevicesHere(SlowedPace(device_slowdown))
        self.server = ServerProcess(models, threads=threads)

    def __enter__(self) -> Self:
        """Start the server."""
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.server.stop()

    @contextmanager
    def direct(self) -> Iterator[str]:
        """Leave the relay out."""
        yield self.server.url

    @contextmanager
    def link(self, *, rate_bits_per_s: float, rtt_s: float) -> Iterator[str]:
        """Put a relay between the two."""
        with ShapedLink(self.server.url, rate_bits_per_s=rate_bits_per_s, rtt_s=rtt_s) as link:
            yield link.url


class LimitedBed:
    """A device under a CPU quota and real TCP over a shaped pipe; a context manager.

    Args:
        models: Folder that the server serves.
        threads: Threads of one inference on either side; the device has one processor.
        device_slowdown: The device gets one part in so many of that processor's time.
    """

    kind: BedKind = "real"

    def __init__(self, models: Path, *, threads: int, device_slowdown: float) -> None:
        self.conditions = {
            "bed": self.kind,
            "device_slowdown": device_slowdown,
            "threads": threads,
        }
        self._bed = RealBed(uplink_bits_per_s=_DIRECT_BITS_PER_S, rtt_s=_DIRECT_RTT_S)
        self.device = DeviceProcess(self._bed, 1 / device_slowdown)
        self.server = ServerProcess(models, threads=threads, bed=self._bed)

    def __enter__(self) -> Self:
        """Make the bed, and start server and device on it.

        Raises:
            LabError: If real limits are impossible here; it says why.
        """
        with ExitStack() as stack:
            stack.enter_context(self._bed)
            stack.enter_context(self.server)
            stack.enter_context(self.device)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End both, and remove the bed."""
        self._stack.close()

    def direct(self) -> AbstractContextManager[str]:
        """Open the pipe as far as it goes."""
        return self.link(rate_bits_per_s=_DIRECT_BITS_PER_S, rtt_s=_DIRECT_RTT_S)

    @contextmanager
    def link(self, *, rate_bits_per_s: float, rtt_s: float) -> Iterator[str]:
        """Give the pipe a rate and a delay."""
        self._bed.set_link(uplink_bits_per_s=rate_bits_per_s, rtt_s=rtt_s)
        yield self.server.url


def bed_of(
    kind: BedKind, models: Path, *, threads: int, device_slowdown: float
) -> AbstractContextManager[Bed]:
    """Return a bed of a kind, to be entered; see the two."""
    if kind == "emulated":
        return EmulatedBed(models, threads=threads, device_slowdown=device_slowdown)
    return LimitedBed(models, threads=threads, device_slowdown=device_slowdown)

"""The device's side of the demo: it profiles, opens devices and makes requests, and times them.

It knows nothing of links and beds: whoever calls it says where the server is. ``device_process``
does the same in another process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from isthmus.device.client import Device
from isthmus.errors import RemoteError
from isthmus.loading.bundle import Bundle, open_bundle
from isthmus.profiling.plans import Effort
from isthmus.profiling.profile import profile_bundle
from isthmus.runtime.clock import Pace
from isthmus.runtime.image import decode
from isthmus.types.outcome import Outcome
from isthmus.types.plan import Rules
from isthmus.types.progress import Progress

__all__ = ["Ask", "DeviceSide", "Devices", "DevicesHere", "ProfileTask"]


class Ask(Protocol):
    """Makes one request."""

    def __call__(self, device: str, photograph: str, rules: Rules) -> tuple[float, Outcome | None]:
        """Ask a device about a photograph, both by name.

        Returns:
            Seconds to the answer, at most the devices' limit, and the outcome; ``None`` if the
            request was cut off.
        """


@dataclass(frozen=True)
class Devices:
    """Devices to open.

    Attributes:
        bundle: The folder of a profiled bundle.
        url: The server, as the devices see it.
        rules: By which each is opened, by its name.
        photographs: What they will be asked about: image files by name.
        threads: Threads of one inference.
        limit_s: A request is cut off after this time.
    """

    bundle: Path
    url: str
    rules: Mapping[str, Rules]
    photographs: Mapping[str, bytes]
    threads: int
    limit_s: float


@dataclass(frozen=True)
class ProfileTask:
    """A bundle to profile.

    Attributes:
        bundle: Its folder.
        url: The server, as the device sees it.
        threads: Threads of one inference.
        budget_s: How long plans are run again and again.
        notes: JSON values to keep with the profile.
    """

    bundle: Path
    url: str
    threads: int
    budget_s: float
    notes: Mapping[str, Any]


class DeviceSide(Protocol):
    """Where a device runs."""

    def profile(self, task: ProfileTask, progress: Progress) -> None:
        """Profile a bundle there."""

    def opened(self, devices: Devices) -> AbstractContextManager[Ask]:
        """Open devices there while the block runs."""


class DevicesHere:
    """The device's side in this process.

    Args:
        pace: How fast it works.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def profile(self, task: ProfileTask, progress: Progress) -> None:
        """Profile a bundle here."""
        profile_bundle(
            open_bundle(task.bundle),
            task.url,
            effort=Effort(budget_s=task.budget_s),
            threads=task.threads,
            pace=self._pace,
            notes=task.notes,
            progress=progress,
        )

    @contextmanager
    def opened(self, devices: Devices) -> Iterator[Ask]:
        """Open devices here while the block runs."""
        bundle = open_bundle(devices.bundle)
        with ExitStack() as stack:
            running = {
                name: stack.enter_context(
                    Device(
                        bundle,
                        server=devices.url,
                        rules=rules,
                        threads=devices.threads,
                        timeout_s=devices.limit_s,
                        pace=self._pace,
                        is_probing=False,  # methods share a link: one's probe slows another
                    )
                )
                for name, rules in devices.rules.items()
            }
            _decode_once(bundle, devices)

            def ask(device: str, photograph: str, rules: Rules) -> tuple[float, Outcome | None]:
                image = devices.photographs[photograph]
                begun_at_s = time.perf_counter()
                try:
                    outcome = running[device].infer(image, rules=rules)
                except RemoteError:
                    return devices.limit_s, None
                elapsed_s = time.perf_counter() - begun_at_s
                return min(elapsed_s, devices.limit_s), outcome

            yield ask


def _decode_once(bundle: Bundle, devices: Devices) -> None:
    """Decode every photograph as it will be.

    The first in a process that needs more memory than any before waits for the system to find it,
    4 to 14 ms for 8 MB here, which is not the business of the method that happens to be the first.
    """
    allowed = [rules.variants or bundle.variants.keys() for rules in devices.rules.values()]
    pipelines = {bundle.variants[name].pipeline for names in allowed for name in names}
    for photograph in devices.photographs.values():
        for pipeline in filter(None, pipelines):
            decode(photograph, shorter_side_px=pipeline.resize_shorter_side_px)

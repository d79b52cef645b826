"""Clock and pace: the only places where time is read, and where the lab may stretch it.

It does not schedule anything; a caller that waits does so itself.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["FULL_PACE", "Pace", "now_s"]

now_s = time.perf_counter
"""Monotonic time, seconds; the difference of two calls is a duration."""


class Pace(Protocol):
    """How fast this device works, compared with the machine that it runs on."""

    @property
    def factor(self) -> float:
        """How many times as long as this machine's a stage of the device takes."""

    def after(self, busy_s: float) -> None:
        """Be told that a stage of the device has just taken ``busy_s`` seconds; may sleep."""


class _FullPace:
    """The machine's own speed."""

    factor = 1.0

    def after(self, busy_s: float) -> None:
        """Return at once."""


FULL_PACE: Pace = _FullPace()
"""The machine's own speed: what every real device uses."""

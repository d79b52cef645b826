"""An emulated slower device: real work, then idling in proportion to it.

It does not make a processor slow: caches, memory and the server keep their own speed, and a
stage that waits is stretched like one that computes. Results got with it are called emulated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from isthmus.errors import ConditionsError
from isthmus.runtime import clock

__all__ = ["SlowedPace"]

_POLL_S = 0.0005
"""The last stretch of a wait polls the clock, because sleeping wakes up late."""


class SlowedPace:
    """Makes every device stage take ``factor`` times as long as it did (a ``Pace``).

    Args:
        factor: 1 for the device as it is, 3 for a device three times slower.
        sleep: Waits for some seconds; a test passes its own.
        now_s: The clock that ``sleep`` moves, seconds.

    Raises:
        ConditionsError: If ``factor`` is less than 1 or not a number.
    """

    def __init__(
        self,
        factor: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        if not (math.isfinite(factor) and factor >= 1):
            raise ConditionsError(f"a device can be emulated 1 or more times slower, not {factor}")
        self.factor = factor
        self._sleep = sleep
        self._now_s = now_s

    def after(self, busy_s: float) -> None:
        """Wait ``factor - 1`` times the time that a stage took.

        Args:
            busy_s: Time the stage took, seconds, zero or positive.
        """
        until_s = self._now_s() + (self.factor - 1) * busy_s
        while (left_s := until_s - self._now_s()) > 0:
            self._sleep(left_s - _POLL_S if left_s > _POLL_S else 0.0)

"""Prober: looks, now and then, whether what is believed to be slow still is.

A device that avoids a slow server never sees it recover, and one that works alone never sees its
link. What is used corrects itself, so only what is avoided is probed, in a thread of its own that
no request waits for. It knows no way to look by itself: see ``device.probes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isthmus.device.background import Background
from isthmus.errors import RemoteError
from isthmus.runtime import clock

__all__ = ["Probe", "Prober"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True)
class Probe:
    """A way to look at one thing.

    Attributes:
        is_due: Whether looking may tell something; asked after each request, so it must be cheap.
        look: Look and learn; returns whether something has changed. May raise ``RemoteError``.
    """

    is_due: Callable[[], bool]
    look: Callable[[], bool]


class Prober:
    """Looks where it is due: at once when something may have changed, ever more seldom if not."""

    def __init__(
        self,
        probes: Sequence[Probe],
        *,
        interrupt: Callable[[], None] = lambda: None,
        now_s: Callable[[], float] = clock.now_s,
    ) -> None:
        """Remember what to look at; the first look is one second away.

        Args:
            probes: Ways to look.
            interrupt: Makes a look that waits for the server end at once.
            now_s: The clock, seconds.
        """
        self._probes = tuple(probes)
        self._interrupt = interrupt
        self._now_s = now_s
        self._pauses_s = [_FIRST_PAUSE_S] * len(self._probes)
        self._next_at_s = [now_s() + _FIRST_PAUSE_S] * len(self._probes)
        self._background = Background("isthmus-prober")

    def consider(self) -> None:
        """Begin to look in the background if something is due; returns at once."""
        if self._background.is_busy:
            return
        now_s = self._now_s()
        due = [
            place
            for place, probe in enumerate(self._probes)
            if now_s >= self._next_at_s[place] and probe.is_due()
        ]
        if due:
            self._background.start(lambda: self._look(due))

    def close(self) -> None:
        """Stop looking; interrupts a look that has begun."""
        self._background.close(self._interrupt)

    def _look(self, due: Sequence[int]) -> None:
        for place in due:
            has_changed = False
            try:
                has_changed = not self._background.is_closed and self._probes[place].look()
            except RemoteError:  # the server watch's business
                pass
            finally:  # whatever it was, the next request must not meet it again
                pause_s = _FIRST_PAUSE_S if has_changed else 2 * self._pauses_s[place]
                self._pauses_s[place] = min(pause_s, _LONGEST_PAUSE_S)
                self._next_at_s[place] = self._now_s() + self._pauses_s[place]

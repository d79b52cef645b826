"""Link: the estimated state of the path to a server at one instant. It estimates nothing itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.errors import ConditionsError

__all__ = ["INITIAL_WINDOW_BYTES", "MOST_ROUNDS", "Link", "stall_rounds"]

INITIAL_WINDOW_BYTES = 14_480
"""What a new TCP connection sends before it hears of the other side: ten segments (RFC 6928)."""

MOST_ROUNDS = 48
"""No window doubles more often: one of a single byte would have passed 10^14 bytes."""


@dataclass(frozen=True)
class Link:
    """The estimated state of the path at one instant.

    Attributes:
        uplink_bytes_per_s: Rate from the device to the server, positive.
        downlink_bytes_per_s: Rate from the server to the device, positive.
        rtt_s: Round trip of a small message, seconds.
        uplink_sd_ratio: Standard deviation of the uplink rate, relative to it.
        downlink_sd_ratio: The same of the downlink rate.
        rtt_sd_s: Standard deviation of the round trip, seconds.
        uplink_rtt_correlation: Correlation, -1 to 1, of the errors of seconds per uplink byte and
            of the round trip; an estimate from whole exchanges cannot raise both, so that it is
            negative.
    """

    uplink_bytes_per_s: float
    downlink_bytes_per_s: float
    rtt_s: float
    uplink_sd_ratio: float = 0.0
    downlink_sd_ratio: float = 0.0
    rtt_sd_s: float = 0.0
    uplink_rtt_correlation: float = 0.0

    def __post_init__(self) -> None:  # once a request, so no loop where nothing is wrong
        if not (
            0 < self.uplink_bytes_per_s < math.inf
            and 0 < self.downlink_bytes_per_s < math.inf
            and 0 <= self.rtt_s < math.inf
            and 0 <= self.uplink_sd_ratio < math.inf
            and 0 <= self.downlink_sd_ratio < math.inf
            and 0 <= self.rtt_sd_s < math.inf
            and -1 <= self.uplink_rtt_correlation <= 1
        ):
            self._refuse()

    def _refuse(self) -> None:
        """Say which figure is wrong.

        Raises:
            ConditionsError: Always.
        """
        for name in ("uplink_bytes_per_s", "downlink_bytes_per_s"):
            rate = getattr(self, name)
            if not (math.isfinite(rate) and rate > 0):
                raise ConditionsError(f"{name} must be a positive number, got {rate}")
        for name in ("rtt_s", "uplink_sd_ratio", "downlink_sd_ratio", "rtt_sd_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConditionsError(f"{name} must be zero or a positive number, got {value}")
        raise ConditionsError(
            f"uplink_rtt_correlation must be from -1 to 1, got {self.uplink_rtt_correlation}"
        )

    def rounds_to_fill(self, window_bytes: float) -> int:
        """Return after how many doublings of a window a round trip is filled, at most 48.

        Args:
            window_bytes: The first round's, from 1 on; infinite where nothing holds back.

        Raises:
            ConditionsError: If the window is less than a byte.

        Examples:
            >>> Link(1e6, 1e6, 0.1).rounds_to_fill(15_000)  # 100,000 bytes fill a round trip
            3
        """
        if not window_bytes >= 1:
            raise ConditionsError(f"window_bytes must be at least 1, got {window_bytes}")
        sent_s = window_bytes / self.uplink_bytes_per_s
        if sent_s >= self.rtt_s:
            return 0
        whole, doublings = math.frexp(self.rtt_s)
        part, already = math.frexp(sent_s)
        return min(doublings - already + (whole > part), MOST_ROUNDS)

    def stalls_s(self, window_bytes: float) -> tuple[float, ...]:
        """Return what TCP's slow start costs an upload beyond its bytes over the rate.

        A sender may have ``window_bytes`` under way; each round trip doubles them, until a round
        trip is filled. Until then the sender waits for the rest of each round.

        Args:
            window_bytes: The first round's, from 1 on; infinite where nothing holds back.

        Returns:
            Seconds lost by a message that needs ``k`` rounds beyond its first, at position ``k``:
            0.0 first, rising. One that needs more rounds than that loses the last entry, since
            the link is full by then. ``stall_rounds`` says how many a message needs.

        Raises:
            ConditionsError: If the window is less than a byte.

        References:
            Cardwell et al., "Modeling TCP latency", INFOCOM 2000. *Departs*: no losses, and
            every round doubles, as with byte counting (RFC 3465, RFC 5681 section 3.1).

        Examples:
            >>> link = Link(1e6, 1e6, 0.1)  # 100,000 bytes fill a round trip
            >>> [round(s, 3) for s in link.stalls_s(15_000)]
            [0.0, 0.085, 0.155, 0.195]
        """
        most = self.rounds_to_fill(window_bytes)
        sent_s = window_bytes / self.uplink_bytes_per_s if most else 0.0
        return tuple(k * self.rtt_s - sent_s * (2**k - 1) for k in range(most + 1))

    def stall_s(self, sent_bytes: float, window_bytes: float) -> float:
        """Return what slow start costs an upload of so many bytes, seconds; see ``stalls_s``.

        Raises:
            ConditionsError: If the window is less than a byte.

        Examples:
            >>> round(Link(1e6, 1e6, 0.1).stall_s(60_000, 15_000), 3)
            0.155
        """
        stalls_s = self.stalls_s(window_bytes)
        return stalls_s[min(stall_rounds(sent_bytes, window_bytes), len(stalls_s) - 1)]


def stall_rounds(sent_bytes: float, window_bytes: float) -> int:
    """Return how many round trips a message needs beyond its first while the window doubles.

    Examples:
        >>> [stall_rounds(size, 15_000) for size in (10_000, 15_000, 15_001, 45_001, 200_000)]
        [0, 0, 1, 2, 3]
    """
    if sent_bytes <= window_bytes:
        return 0
    return math.ceil(math.log2(sent_bytes / window_bytes + 1)) - 1

"""Link: the estimated state of the path to a server at one instant."""

from __future__ import annotations

import math
from dataclasses import dataclass

from isthmus.errors import ConditionsError

__all__ = ["Link"]


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
    """

    uplink_bytes_per_s: float
    downlink_bytes_per_s: float
    rtt_s: float
    uplink_sd_ratio: float = 0.0
    downlink_sd_ratio: float = 0.0
    rtt_sd_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("uplink_bytes_per_s", "downlink_bytes_per_s"):
            rate = getattr(self, name)
            if not (math.isfinite(rate) and rate > 0):
                raise ConditionsError(f"{name} must be a positive number, got {rate}")
        for name in ("rtt_s", "uplink_sd_ratio", "downlink_sd_ratio", "rtt_sd_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConditionsError(f"{name} must be zero or a positive number, got {value}")

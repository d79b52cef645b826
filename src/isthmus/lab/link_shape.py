"""What the pipes and relays of the lab are told about a link. It makes none."""

from __future__ import annotations

import math

from isthmus.errors import ConditionsError

__all__ = ["checked_shape"]


def checked_shape(
    up_bits_per_s: float, down_bits_per_s: float | None, rtt_s: float
) -> dict[str, float]:
    """Return the rates in bytes and the delay of one direction, under the pipes' names for them.

    Args:
        up_bits_per_s: Rate from the device to the server.
        down_bits_per_s: Rate back; ``None`` for the same.
        rtt_s: Round trip without size; each direction delays by half of it.

    Raises:
        ConditionsError: If a rate or the round trip is impossible.
    """
    down_bits_per_s = up_bits_per_s if down_bits_per_s is None else down_bits_per_s
    for rate in (up_bits_per_s, down_bits_per_s):
        if not (math.isfinite(rate) and rate > 0):
            raise ConditionsError(f"the link's rate must be a positive number, got {rate}")
    if not (math.isfinite(rtt_s) and rtt_s >= 0):
        raise ConditionsError(f"the link's round trip must be zero or positive, got {rtt_s}")
    return {
        "uplink_bytes_per_s": up_bits_per_s / 8,
        "downlink_bytes_per_s": down_bits_per_s / 8,
        "delay_s": rtt_s / 2,
    }

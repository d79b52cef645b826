"""Samples: timed exchanges, and the round trip and rate that explain a few of them best.

It keeps nothing from one call to the next; ``estimation.link`` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from isthmus.estimation.limits import RATE_LIMITS_BYTES_PER_S, RTT_LIMITS_S, clipped
from isthmus.types.link import stall_rounds

__all__ = ["Sample", "fit_samples", "upload_rounds"]

_LEAST_SHARE = 0.01


class Sample(NamedTuple):
    """One timed exchange.

    Attributes:
        sent_bytes: Bytes written, framing included.
        received_bytes: Bytes of the reply.
        elapsed_s: The whole exchange minus the server's own time, seconds. May be slightly
            negative where the server's clock is coarse.
        window_bytes: What the connection might send at first; infinite where nothing held back.
    """

    sent_bytes: int
    received_bytes: int
    elapsed_s: float
    window_bytes: float = math.inf


def upload_rounds(
    sent_bytes: float, window_bytes: float, s_per_byte: float, rtt_s: float
) -> tuple[int, float]:
    """Return the round trips of an upload in slow start, and the bytes sent while it waits.

    A message that waits for ``k`` round trips takes ``k`` of them, and then what has not been
    sent meanwhile; see ``types.link.Link.stalls_s``.
    """
    window_s = window_bytes * s_per_byte
    if window_s >= rtt_s:
        return 1, 0.0
    waits = min(stall_rounds(sent_bytes, window_bytes), math.ceil(math.log2(rtt_s / window_s)))
    return 1 + waits, window_bytes * (2.0**waits - 1)


def fit_samples(exchanges: Sequence[Sample]) -> tuple[float, float, list[float]]:
    """Return round trip, seconds per byte and each relative error of a few exchanges.

    How many rounds slow start took depends on both, so they are found in a few turns.
    """
    times_s = [clipped(one.elapsed_s, RTT_LIMITS_S) for one in exchanges]
    sizes = [float(one.sent_bytes + one.received_bytes) for one in exchanges]
    most_bytes, most_s = max(zip(sizes, times_s, strict=True))
    least_s = min(times_s)
    rounds, bytes_after = [1.0] * len(sizes), sizes
    for _ in range(4):
        rtt_s, s_per_byte = _fit_line(rounds, bytes_after, times_s)
        rtt_s = clipped(max(rtt_s, _LEAST_SHARE * least_s), RTT_LIMITS_S)
        s_per_byte = max(s_per_byte, _LEAST_SHARE * most_s / most_bytes)
        s_per_byte = 1 / clipped(1 / s_per_byte, RATE_LIMITS_BYTES_PER_S)
        told = [
            upload_rounds(one.sent_bytes, one.window_bytes, s_per_byte, rtt_s)
            if one.window_bytes < one.sent_bytes
            else (1, 0.0)
            for one in exchanges
        ]
        if all(count == 1 for count, _ in told):
            break
        rounds = [float(count) for count, _ in told]
        bytes_after = [size - waited for size, (_, waited) in zip(sizes, told, strict=True)]
    errors = [
        time_s / (count * rtt_s + s_per_byte * size) - 1
        for count, size, time_s in zip(rounds, bytes_after, times_s, strict=True)
    ]
    return rtt_s, s_per_byte, errors


def _fit_line(
    rounds: Sequence[float], sizes: Sequence[float], times_s: Sequence[float]
) -> tuple[float, float]:
    """Return the round trip and seconds per byte of least squared relative error.

    Where the exchanges do not tell them apart, half of the mean time is the round trip.
    """
    weights = [1 / time_s**2 for time_s in times_s]
    rows = list(zip(weights, rounds, sizes, times_s, strict=True))
    cc = sum(w * c * c for w, c, _, _ in rows)
    cb = sum(w * c * b for w, c, b, _ in rows)
    bb = sum(w * b * b for w, _, b, _ in rows)
    ct = sum(w * c * t for w, c, _, t in rows)
    bt = sum(w * b * t for w, _, b, t in rows)
    spread = cc * bb - cb * cb
    if spread <= 1e-9 * cc * bb:
        return ct / cc / 2, bt / bb / 2
    return (ct * bb - bt * cb) / spread, (cc * bt - cb * ct) / spread

"""Limits: what round trips and rates are taken to be at least and at most. It estimates nothing."""

from __future__ import annotations

__all__ = ["RATE_LIMITS_BYTES_PER_S", "RTT_LIMITS_S", "clipped"]

RTT_LIMITS_S = (1e-6, 3600.0)
RATE_LIMITS_BYTES_PER_S = (1.0, 1e12)


def clipped(value: float, limits: tuple[float, float]) -> float:
    """Return the number between two limits that is nearest to ``value``.

    Examples:
        >>> clipped(7.0, (0.0, 1.0)), clipped(-7.0, (0.0, 1.0)), clipped(0.5, (0.0, 1.0))
        (1.0, 0.0, 0.5)
    """
    low, high = limits
    return min(max(value, low), high)

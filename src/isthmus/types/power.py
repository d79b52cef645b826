"""Power: what a device draws while it computes, sends, waits and receives. It measures nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

__all__ = ["ILLUSTRATIVE_POWER", "Power"]


@dataclass(frozen=True)
class Power:
    """What a device draws beyond its rest, watts.

    Attributes:
        compute_w: While it decodes, computes or encodes.
        send_w: While it connects or uploads.
        wait_w: While the server works.
        receive_w: While the answer comes back.
        source: Who measured it, on what.
    """

    compute_w: float
    send_w: float
    wait_w: float
    receive_w: float
    source: str

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if part.name != "source" and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{part.name} must be zero or a positive number, got {value}")


ILLUSTRATIVE_POWER = Power(
    compute_w=2.0, send_w=1.2, wait_w=0.2, receive_w=0.9, source="illustrative"
)
"""Round figures of a phone's order of magnitude, measured by nobody: give your own device's."""

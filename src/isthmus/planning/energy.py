"""Energy: what a plan draws from the device's battery. It measures no power: ``types.power``."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.types.power import Power

__all__ = ["STAGES_BY_STATE", "energy_j", "watts_by_state"]

STAGES_BY_STATE: Mapping[str, tuple[str, ...]] = {
    "compute": ("decode", "preprocess", "head", "encode", "tail"),
    "send": ("connect", "upload"),
    "wait": ("wait", "server_decode", "server"),
    "receive": ("download",),
}
"""What the device does while a plan's stages happen; every stage is in one of them."""


def watts_by_state(power: Power) -> tuple[float, ...]:
    """Return what a device draws in each state, watts, in the order of ``STAGES_BY_STATE``."""
    return power.compute_w, power.send_w, power.wait_w, power.receive_w


def energy_j(stages_s: Mapping[str, float], power: Power) -> float:
    """Return what a device draws beyond its rest for stages that take so long, joules.

    Each stage's seconds times the power of the state that the device is in meanwhile. A hedge is
    not counted.

    Args:
        stages_s: Seconds of each of ``STAGES``.
        power: What the device draws.

    Examples:
        >>> from isthmus.types.plan import STAGES
        >>> from isthmus.types.power import Power
        >>> power = Power(2.0, 1.0, 0.1, 0.5, source="an example")
        >>> round(energy_j(dict.fromkeys(STAGES, 0.0) | {"head": 0.1, "server": 0.3}, power), 9)
        0.23
    """
    s = stages_s
    return (
        power.compute_w * (s["decode"] + s["preprocess"] + s["head"] + s["encode"] + s["tail"])
        + power.send_w * (s["connect"] + s["upload"])
        + power.wait_w * (s["wait"] + s["server_decode"] + s["server"])
        + power.receive_w * s["download"]
    )

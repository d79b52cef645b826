"""Isthmus runs trained neural networks across a device and a nearby server.

Importing it is light: names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.device.client import Device
    from isthmus.errors import IsthmusError, RemoteError
    from isthmus.types.conditions import Conditions
    from isthmus.types.link import Link
    from isthmus.types.outcome import Outcome, Timeline
    from isthmus.types.plan import Plan, PlanTable, Rules

__all__ = [
    "Conditions",
    "Device",
    "IsthmusError",
    "Link",
    "Outcome",
    "Plan",
    "PlanTable",
    "RemoteError",
    "Rules",
    "Timeline",
    "__version__",
]

__version__ = "0.1.0"

_HOMES = {
    "Conditions": "isthmus.types.conditions",
    "Device": "isthmus.device.client",
    "IsthmusError": "isthmus.errors",
    "Link": "isthmus.types.link",
    "Outcome": "isthmus.types.outcome",
    "Plan": "isthmus.types.plan",
    "PlanTable": "isthmus.types.plan",
    "RemoteError": "isthmus.errors",
    "Rules": "isthmus.types.plan",
    "Timeline": "isthmus.types.outcome",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Isthmus runs trained neural networks across a device and a nearby server.

These are the nouns and verbs that a user needs; ``docs/python.md`` walks through them. Importing
the package is light: names are loaded when they are first used. ``build_bundle`` and ``serve`` need
what the extras ``build`` and ``edge`` install.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.building.build import build_bundle
    from isthmus.device.client import Device
    from isthmus.edge.server import serve
    from isthmus.errors import IsthmusError, RemoteError
    from isthmus.loading.bundle import open_bundle
    from isthmus.planning.decide import decide
    from isthmus.planning.explain import explain
    from isthmus.profiling.profile import profile_bundle
    from isthmus.types.conditions import Conditions, ImageFacts
    from isthmus.types.link import Link
    from isthmus.types.outcome import Outcome, Timeline
    from isthmus.types.plan import Plan, PlanTable, Rules

__all__ = [
    "Conditions",
    "Device",
    "ImageFacts",
    "IsthmusError",
    "Link",
    "Outcome",
    "Plan",
    "PlanTable",
    "RemoteError",
    "Rules",
    "Timeline",
    "__version__",
    "build_bundle",
    "decide",
    "explain",
    "open_bundle",
    "profile_bundle",
    "serve",
]

__version__ = "0.1.0"

_HOMES = {
    "Conditions": "isthmus.types.conditions",
    "Device": "isthmus.device.client",
    "ImageFacts": "isthmus.types.conditions",
    "IsthmusError": "isthmus.errors",
    "Link": "isthmus.types.link",
    "Outcome": "isthmus.types.outcome",
    "Plan": "isthmus.types.plan",
    "PlanTable": "isthmus.types.plan",
    "RemoteError": "isthmus.errors",
    "Rules": "isthmus.types.plan",
    "Timeline": "isthmus.types.outcome",
    "build_bundle": "isthmus.building.build",
    "decide": "isthmus.planning.decide",
    "explain": "isthmus.planning.explain",
    "open_bundle": "isthmus.loading.bundle",
    "profile_bundle": "isthmus.profiling.profile",
    "serve": "isthmus.edge.server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

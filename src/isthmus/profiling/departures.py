"""Departures: where a device or its server is not what a bundle was profiled with.

Times that were measured otherwise predict wrongly until the device has learned how much. It
measures nothing and changes no prediction; what it finds, somebody has to be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isthmus.runtime.session import ONNXRUNTIME_VERSION

__all__ = ["departures"]


def departures(
    profile: Mapping[str, Any], *, threads: int, server: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return, in words, what is not as it was when profiled; empty if nothing is known not to be.

    Threads of one inference and onnxruntime's version are looked at, on both sides.

    Args:
        profile: The bundle's record of its profile.
        threads: Of one inference on this device.
        server: The metadata of the server; empty for none.
    """
    before, now = _onnxruntime(profile, "device"), ONNXRUNTIME_VERSION
    compared = [
        ("the device runs an inference with", "threads", profile.get("device_threads"), threads),
        ("the server runs an inference with", "threads", profile.get("server_threads"),
         server.get("threads")),
        ("the device runs onnxruntime", "", before, now),
        ("the server runs onnxruntime", "", _onnxruntime(profile, "server"),
         _onnxruntime({"libraries": {"server": server.get("libraries")}}, "server")),
    ]  # fmt: skip
    return tuple(
        f"{what} {_count(is_, noun)}, and it was profiled with {was}: predictions are off until "
        "they are learned anew; profile again"
        for what, noun, was, is_ in compared
        if was is not None and is_ is not None and was != is_
    )


def _count(value: Any, noun: str) -> str:
    return f"{value} {noun[:-1] if value == 1 else noun}" if noun else str(value)


def _onnxruntime(record: Mapping[str, Any], site: str) -> Any:
    """Return the version that a record tells of a site, or ``None``."""
    libraries = record.get("libraries")
    of_site = libraries.get(site) if isinstance(libraries, Mapping) else None
    return of_site.get("onnxruntime") if isinstance(of_site, Mapping) else None

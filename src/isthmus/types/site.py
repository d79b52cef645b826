"""Site: a place that can run layers. It does not say what anything costs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Site", "SiteKind"]

SiteKind = Literal["device", "edge", "cloud"]


@dataclass(frozen=True)
class Site:
    """A place that can run layers of a network.

    Attributes:
        kind: ``device``, ``edge`` or ``cloud``.
        name: What people call it.
        threads: Threads that one inference uses there.
        memory_bytes: Memory that models may take, or ``None`` if not known.
    """

    kind: SiteKind
    name: str
    threads: int = 1
    memory_bytes: int | None = None

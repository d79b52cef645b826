"""Progress: how long-running work tells how far it is. It shows nothing itself."""

from __future__ import annotations

from typing import Protocol

__all__ = ["SILENT", "Progress"]


class Progress(Protocol):
    """Told about each step of long-running work; the command line draws a bar from it."""

    def begin(self, task: str, steps: int) -> None:
        """A task of so many steps begins; the one before it is finished."""

    def advance(self, detail: str = "") -> None:
        """One step is done; ``detail`` says which."""


class _Silent:
    """Nobody listens."""

    def begin(self, task: str, steps: int) -> None:
        """Ignore it."""

    def advance(self, detail: str = "") -> None:
        """Ignore it."""


SILENT: Progress = _Silent()
"""For callers that show nothing."""

"""Heads: the device's parts of its networks, loaded on first use and then kept.

It sets no bound on memory: whoever opens it says by ``load`` which parts are worth having.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from isthmus.runtime.session import Session
from isthmus.types.plan import PlanRow

__all__ = ["Heads"]

_WARM_UP_RUNS = 2  # in the first a session sizes its memory, in the second it takes it


class Heads:
    """The device's parts of its networks, as sessions."""

    def __init__(self, path_of: Callable[[str, str], Path], *, threads: int = 1) -> None:
        """Remember where the files are; nothing is loaded yet.

        Args:
            path_of: From a variant's name and a cut's id (empty for the whole network) to its
                ONNX file.
            threads: Threads of one inference.
        """
        self._path_of = path_of
        self._threads = threads
        self._sessions: dict[tuple[str, str], Session] = {}

    def session(self, variant: str, cut_id: str = "") -> Session:
        """Return the session of a head; loaded and warmed up if it was not yet.

        Args:
            variant: The network's name.
            cut_id: Id of the cut whose head it is; empty for the whole network.

        Raises:
            ModelError: If the file cannot be loaded.
        """
        key = (variant, cut_id)
        if key not in self._sessions:
            session = Session(self._path_of(variant, cut_id), threads=self._threads)
            zeros = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in session.inputs}
            for _ in range(_WARM_UP_RUNS):
                session.run(zeros)
            self._sessions[key] = session
        return self._sessions[key]

    def load(self, rows: Iterable[PlanRow]) -> None:
        """Load what the rows need on the device, so that no request has to wait for it."""
        for row in rows:
            if row.family in ("local", "split"):
                self.session(row.variant, row.cut_id)

    def close(self) -> None:
        """Give all memory back."""
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

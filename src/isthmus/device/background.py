"""Background: one thread for what no request should wait for, one thing at a time.

What is done there, and when, is its owner's business (``prober``, ``server_watch``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Background"]

_AGAIN_S = 0.05


class Background:
    """Does one thing at a time; whoever asks for a second one is told that it is busy.

    Several threads may use it at once.
    """

    def __init__(self, name: str) -> None:
        """Name the thread; it is started by ``start``."""
        self._name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing is started any more; what has begun should end."""
        return self._is_closed

    @property
    def is_busy(self) -> bool:
        """Whether nothing can be started now."""
        return self._is_closed or (self._thread is not None and self._thread.is_alive())

    def start(self, work: Callable[[], object]) -> None:
        """Begin to work and return at once; nothing happens while busy."""
        with self._lock:
            if not self.is_busy:
                self._thread = threading.Thread(target=work, name=self._name, daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is being done, and return whether that came to pass."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def close(self, interrupt: Callable[[], None]) -> None:
        """Start nothing any more, and wait until what has begun has ended.

        Args:
            interrupt: Makes it end; called again and again, because it may be between two things
                that can be interrupted.
        """
        with self._lock:
            self._is_closed = True
        while not self.wait(0.0):
            interrupt()
            self.wait(_AGAIN_S)

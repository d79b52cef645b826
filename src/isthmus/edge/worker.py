"""Worker: one thread that runs one job at a time, with a bounded queue in front.

It measures how long jobs wait and how busy it is. It knows nothing of models or messages.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from isthmus.errors import BusyError
from isthmus.runtime.clock import now_s

__all__ = ["Worker"]

T = TypeVar("T")

_LOAD_MEMORY_S = 5.0  # the busy share is an average that forgets with this time constant


class Worker:
    """One thread; jobs run in the order in which they come. All methods are the event loop's."""

    def __init__(self, name: str, *, longest_queue: int) -> None:
        """Start no thread yet.

        Args:
            name: Of the thread.
            longest_queue: Jobs that may wait or run; one more is refused.
        """
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._longest_queue = longest_queue
        self._jobs = 0
        self._load_ratio = 0.0
        self._load_at_s = now_s()

    @property
    def queue_length(self) -> int:
        """Jobs that wait or run."""
        return self._jobs

    @property
    def load_ratio(self) -> float:
        """Share of the last seconds in which a job was there, 0 to 1."""
        self._account()
        return self._load_ratio

    async def run(self, job: Callable[[], T]) -> tuple[T, float]:
        """Run a job on the thread.

        Returns:
            What it returns, and the seconds that it waited for its turn.

        Raises:
            BusyError: If the queue is full. What the job raises is raised too.
        """
        if self._jobs >= self._longest_queue:
            raise BusyError(f"{self._jobs} requests are waiting already; try again later")
        queued_at_s = now_s()

        def timed() -> tuple[T, float]:
            waited_s = now_s() - queued_at_s
            return job(), waited_s

        self._account()
        self._jobs += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, timed)
        finally:
            self._account()
            self._jobs -= 1

    def close(self) -> None:
        """Finish the running job, drop those that wait."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _account(self) -> None:
        """Let the busy share forget what lies behind, and learn what was since the last call."""
        at_s = now_s()
        kept = math.exp((self._load_at_s - at_s) / _LOAD_MEMORY_S)
        self._load_ratio = self._load_ratio * kept + (1 - kept) * (self._jobs > 0)
        self._load_at_s = at_s

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

        A job whose caller is cancelled is left out, with all that it holds, unless it runs already.

        Raises:
            BusyError: If the queue is full. What the job raises is raised too.
        """
        if self._jobs >= self._longest_queue:
            raise BusyError(f"{self._jobs} requests are waiting already; try again later")
        queued_at_s = now_s()
        due = [job]

        def timed() -> tuple[T, float]:
            waited_s = now_s() - queued_at_s
            return due.pop()(), waited_s

        self._account()
        self._jobs += 1
        running = self._thread.submit(timed)
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._forget_one))
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            due.clear()  # the thread's queue keeps its entry until its turn comes
            raise

    def close(self) -> None:
        """Finish the running job, drop those that wait."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _forget_one(self) -> None:
        self._account()
        self._jobs -= 1

    def _account(self) -> None:
        """Let the busy share forget what lies behind, and learn what was since the last call."""
        at_s = now_s()
        kept = math.exp((self._load_at_s - at_s) / _LOAD_MEMORY_S)
        self._load_ratio = self._load_ratio * kept + (1 - kept) * (self._jobs > 0)
        self._load_at_s = at_s

"""Ticks: interrupts one processor twice a millisecond, so that a CPU quota is kept that finely.

The kernel looks at what a process has used when its timer ticks, every 1 to 10 ms, or when the
processor turns to another process: a quota of 1 ms would be overrun up to a whole tick. This
process does nothing but wake up on that processor. It sets no quota.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

__all__ = ["PERIOD_S", "be_urgent"]

PERIOD_S = 0.0005


def be_urgent() -> None:
    """Run before everybody else, in real time if that is allowed; for what sleeps most of the time.

    Inference beside it would otherwise delay it by whole scheduler slices.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)


def _main() -> None:
    """Wake up on the processor given until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, {int(sys.argv[1])})
    be_urgent()
    while not select.select([0], [], [], PERIOD_S)[0]:
        pass


if __name__ == "__main__":
    _main()

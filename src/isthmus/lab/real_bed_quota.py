"""CPU quota: a cgroup whose processes share a part of one processor, in the shortest periods.

The kernel grants no less than 1 ms at a time, so a share of a tenth is 1 ms in every 10. It starts
no process but its ticks, and moves none into the cgroup (``real_bed_start`` does).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from isthmus.errors import ConditionsError, LabError
from isthmus.lab import real_bed_ticks

__all__ = ["CpuQuota", "controller", "remove_leftovers"]

_LEAST_QUOTA_US = 1000
_PREFIX = "isthmus-bed-"
_END_LIMIT_S = 30.0
_numbers = itertools.count()


class CpuQuota:
    """A share of one processor; a context manager.

    Attributes:
        processor: Number of the processor; the last one that this process may use.
        path: Folder of the cgroup, once entered.
    """

    def __init__(self, ratio: float) -> None:
        """Remember the share.

        Args:
            ratio: Processor time over time, above 0 and at most 1, which is no limit.

        Raises:
            ConditionsError: If the share is impossible.
        """
        self._ratio = _checked(ratio)
        self.processor = max(os.sched_getaffinity(0))
        self.path = Path()
        self._ticks: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Make the cgroup.

        Raises:
            LabError: If it cannot be made.
        """
        found = controller()
        if found is None:
            raise LabError("no cgroup controller of processor time can be written to")
        remove_leftovers()
        self.path = found / f"{_PREFIX}{_identity(os.getpid())}-{next(_numbers)}"
        try:
            self.path.mkdir()
        except OSError as error:
            raise LabError(f"no cgroup can be made: {error}") from error
        try:
            self._ticks = subprocess.Popen(
                [sys.executable, "-I", "-S", real_bed_ticks.__file__, str(self.processor)],
                stdin=subprocess.PIPE,
            )
            self.set(self._ratio)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End what runs in the cgroup, and remove it."""
        self.close()

    def set(self, ratio: float) -> None:
        """Change the share from now on.

        Raises:
            ConditionsError: If the share is impossible.
            LabError: If the kernel refuses.
        """
        self._ratio = _checked(ratio)
        try:
            _limit(self.path, ratio)
        except OSError as error:
            raise LabError(f"the kernel refuses a CPU quota of {ratio:g}: {error}") from error

    def add(self, process: int) -> None:
        """Let a running process have no more than the share; leaving the context ends it.

        Raises:
            LabError: If there is no such process.
        """
        try:
            (self.path / "cgroup.procs").write_text(str(process))
        except OSError as error:
            raise LabError(f"process {process} cannot be limited: {error}") from error

    def close(self) -> None:
        """End what runs in the cgroup, and remove it. Closing again does nothing."""
        ticks, self._ticks = self._ticks, None
        if ticks is not None:
            ticks.communicate()  # closes its standard input
        if self.path != Path():
            _remove(self.path)
            self.path = Path()


def controller() -> Path | None:
    """Return the folder in which cgroups with a CPU quota can be made, or ``None``."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, folder, kind, options, *_ = line.split()
            path = Path(folder)
            is_there = kind == "cgroup" and "cpu" in options.split(",")  # version 1
            if kind == "cgroup2":
                with contextlib.suppress(OSError):
                    is_there = "cpu" in (path / "cgroup.subtree_control").read_text().split()
            if is_there and os.access(path, os.W_OK):
                return path
    return None


def remove_leftovers() -> None:
    """Remove the cgroups of processes that are gone, and what still runs in them."""
    found = controller()
    for path in found.glob(f"{_PREFIX}*") if found is not None else ():
        owner = path.name.removeprefix(_PREFIX).rpartition("-")[0]
        if owner != _identity(int(owner.partition("-")[0])):
            with contextlib.suppress(OSError):
                _remove(path)


def _identity(process: int) -> str:
    """Return a name of a process that is never another's: its id and when it started."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    return f"{process}-{stat.rpartition(')')[2].split()[19]}"


def _limit(path: Path, ratio: float) -> None:
    """Give the processes of a cgroup a share of one processor."""
    period_us = round(_LEAST_QUOTA_US / ratio)
    if (path / "cpu.max").exists():
        quota = "max" if ratio == 1 else str(_LEAST_QUOTA_US)
        (path / "cpu.max").write_text(f"{quota} {period_us}")
    else:
        (path / "cpu.cfs_quota_us").write_text("-1")
        (path / "cpu.cfs_period_us").write_text(str(period_us))
        if ratio < 1:
            (path / "cpu.cfs_quota_us").write_text(str(_LEAST_QUOTA_US))


def _remove(path: Path) -> None:
    """Kill what runs in a cgroup and remove it.

    Raises:
        LabError: If something in it does not end.
    """
    with contextlib.suppress(OSError):  # ending is work, too, and would take its share of time
        _limit(path, 1.0)
    until_s = time.monotonic() + _END_LIMIT_S
    while path.exists():
        for process in (path / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        with contextlib.suppress(OSError):
            path.rmdir()
            return
        if time.monotonic() > until_s:
            raise LabError(f"{path} cannot be removed: a process in it does not end")
        time.sleep(0.005)


def _checked(ratio: float) -> float:
    if not (math.isfinite(ratio) and 0 < ratio <= 1):
        raise ConditionsError(f"a share of a processor is above 0 and at most 1, not {ratio}")
    return ratio

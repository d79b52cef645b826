"""Start a command on one side of a real bed: enter its namespace and cgroup, then become it.

It is run as a file of its own and needs only the standard library. It makes neither the namespace
nor the cgroup, and ends with the thread that started it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["enter_network", "new_network"]

_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def new_network() -> int:
    """Move this thread into a new network namespace and return a descriptor of it.

    The namespace has no name: it is gone when nobody is in it and all descriptors are closed.

    Raises:
        OSError: If the kernel does not allow it.
    """
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no new network namespace")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def enter_network(descriptor: int) -> None:
    """Move this thread into a network namespace.

    Raises:
        OSError: If the kernel does not allow it.
    """
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the network namespace cannot be entered")


def _main(network: str, cgroup: str, processor: str, *command: str) -> None:
    """Become ``command``; an empty ``cgroup`` or ``processor`` leaves it as it is."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    descriptor = os.open(network, os.O_RDONLY)
    enter_network(descriptor)
    os.close(descriptor)
    if processor:
        os.sched_setaffinity(0, {int(processor)})
    if cgroup:
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as members:  # noqa: PTH118, PTH123
            members.write("0")
    os.execvp(command[0], command)


if __name__ == "__main__":
    _main(*sys.argv[1:])

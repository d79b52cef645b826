"""Programs that end with the process that started them, however that went.

The tether is standard input: a pipe that whoever starts the program holds open and never writes
to. The kernel closes it with its holder, also after SIGKILL, and on every system; the program is
then told to terminate. It starts nothing itself, and ends nothing but its own process.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

__all__ = ["tethered_command"]


def tethered_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module as a program on a tether.

    Start it with ``stdin=subprocess.PIPE``, and keep that pipe for as long as it shall run.
    """
    return [sys.executable, "-m", __name__, module, *arguments]


def _terminate_without_holder() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_terminate_without_holder, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""An edge server in a process of its own, for the lab: started, waited for and stopped again.

It ends with the process that started it, too, should that be killed. It serves nothing itself.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, Self

from isthmus.errors import LabError
from isthmus.lab.real_bed import RealBed
from isthmus.lab.tethered import tethered_command

__all__ = ["ServerProcess"]

_READY = re.compile(rb"ready on (http://[^\s,]+)")
_STOP_LIMIT_S = 20.0
"""It gives the requests that run half of this."""


class ServerProcess:
    """``isthmus serve`` on a free port; a context manager.

    Attributes:
        url: Its address, once entered.
        pid: Its process id, once entered.
    """

    def __init__(
        self,
        models: Path,
        *,
        threads: int = 1,
        start_limit_s: float = 180.0,
        bed: RealBed | None = None,
    ) -> None:
        """Remember what to start.

        Args:
            models: Folder of the models.
            threads: Threads of one inference.
            start_limit_s: How long loading and warming up may take.
            bed: On whose server's side it runs, entered before; on loopback without one.
        """
        self._bed = bed
        self._command = [
            *tethered_command("isthmus", "serve", str(models)),
            *("--host", "127.0.0.1" if bed is None else bed.server_address),
            *("--port", "0", "--threads", str(threads)),
        ]
        self._start_limit_s = start_limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.pid = 0

    def __enter__(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            LabError: If it ends or is not ready in time; with what it printed.
        """
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command if self._bed is None else self._bed.command("server", self._command),
            stdin=subprocess.PIPE,  # the tether: nothing is written to it
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is ours to handle; we stop it ourselves
        )
        self.pid = self._process.pid
        watchdog = threading.Timer(self._start_limit_s, self._process.kill)
        watchdog.start()
        try:
            self.url = self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        finally:
            watchdog.cancel()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.stop()

    def stop(self) -> None:
        """End the server as a service manager would; by force if it does not end."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        finally:  # also Ctrl-C while waiting: without its tether it ends
            self._release()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _release(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
        self._errors.close()
        self._process = None

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str:
        stream: IO[bytes] | None = process.stdout
        assert stream is not None
        for line in stream:
            if found := _READY.search(line):
                return found[1].decode()
        process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip()
        raise LabError(f"the server did not start (exit status {process.returncode}): {said}")

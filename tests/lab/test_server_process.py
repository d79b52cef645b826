"""The lab's server starts, stops, says why it does not start, and is never left behind."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from urllib.request import urlopen

import pytest

from isthmus.errors import LabError
from isthmus.lab.server_process import ServerProcess

STARTER = """
import sys
from pathlib import Path
from isthmus.lab.server_process import ServerProcess
with ServerProcess(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def models(small_model_path):
    return small_model_path.parent


def test_a_server_answers_until_it_is_stopped(models):
    with ServerProcess(models) as server:
        with urlopen(f"{server.url}/v2/health/ready", timeout=60) as reply:
            assert reply.status == 200
        pid = server.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    server.stop()  # again does nothing


def test_a_server_that_does_not_start_says_why(tmp_path):
    with pytest.raises(LabError, match=r"exit status \d.*nowhere"):
        ServerProcess(tmp_path / "nowhere").__enter__()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux to wait for a stranger")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_is_left_behind_by_a_starter_that_is_killed(models, how):
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(models)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as starter:
        handle = os.pidfd_open(int(starter.stdout.readline()))
        try:
            starter.send_signal(how)
            starter.wait()
            ended, _, _ = select.select([handle], [], [], 60)
            assert ended
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)

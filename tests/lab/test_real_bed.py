"""The real bed, with the kernel's TCP over its pipe; skipped by name where it is impossible.

Nothing arrives sooner than the limits allow, and nobody gets more than his share, however busy the
machine is; how much later and how much less is not asked (``test_real_bed_pipe`` has a clock).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus.errors import ConditionsError, LabError
from isthmus.lab import real_bed
from isthmus.lab.real_bed import RealBed, missing

needs_bed = pytest.mark.skipif(bool(missing()), reason=missing())

SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], 9000)) as listener:
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream:
            while header := stream.read(8):
                stream.read(int.from_bytes(header, "big"))
                connection.sendall(b"!")
"""
"""Answers each message (8 bytes of length, then that many) with one byte."""

DEVICE = """
import json, socket, struct, sys, time
connection = socket.create_connection((sys.argv[1], 9000), timeout=60)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def told():
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 84)
    return struct.unpack_from("I", info, 8)[0] * 1e-6, struct.unpack_from("I", info, 80)[0]
def exchange_s(size):
    body = (size - 8).to_bytes(8, "big") + bytes(size - 8)
    begun_at_s = time.perf_counter()
    connection.sendall(body)
    assert connection.recv(1) == b"!"
    return time.perf_counter() - begun_at_s
found, windows = [], []
for size, idle_time_outs in json.loads(sys.argv[2]):
    time_out_s, window = told()
    windows.append(window)
    time.sleep(idle_time_outs * time_out_s)
    found.append(exchange_s(size))
name = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
print(json.dumps([name.rstrip(bytes(1)).decode(), found, windows]))
"""
"""Makes exchanges of some sizes, each after some retransmission time-outs of idleness."""

SPIN = """
import statistics, sys, time
print("ready", flush=True)
sys.stdin.readline()
used_s = time.process_time()
began_at_s = last_s = begun_at_s = time.perf_counter()
runs_s = []
while last_s - begun_at_s < 0.3:  # without system calls, at which the kernel would look, too
    now_s = time.perf_counter()
    if now_s - last_s > 0.0003:
        runs_s.append(last_s - began_at_s)
        began_at_s = now_s
    last_s = now_s
used_s = time.process_time() - used_s
print(used_s / (last_s - begun_at_s), statistics.median(runs_s or [0.3]))
"""
"""Prints what share of a processor it gets, and how long it runs at a time, seconds."""


BURST = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(1000):
        sender.sendto(bytes(1400), (sys.argv[1], 9))
"""
"""Sends more at once than any queue holds."""


@pytest.fixture(scope="module")
def bed():
    with RealBed(uplink_bits_per_s=16e6, rtt_s=0.02, device_cpu_ratio=1.0) as running:
        server = running.start(
            "server", [sys.executable, "-c", SERVER, running.server_address], stdout=subprocess.PIPE
        )
        assert server.stdout.readline() == b"ready\n"
        yield running
        server.stdout.close()


def exchanges(bed: RealBed, *steps: tuple[int, float]) -> tuple[str, list[float], list[int]]:
    """Return the congestion control, how long messages took, and the window before each."""
    command = [sys.executable, "-c", DEVICE, bed.server_address, json.dumps(steps)]
    device = bed.start("device", command, stdout=subprocess.PIPE)
    name, found, windows = json.loads(device.communicate(timeout=120)[0])
    return name, found, windows


@needs_bed
@pytest.mark.parametrize(("mbit_per_s", "size_bytes"), [(1, 60_000), (16, 900_000)])
def test_the_pipe_keeps_its_rate(bed: RealBed, mbit_per_s: float, size_bytes: int):
    bed.set_link(uplink_bits_per_s=mbit_per_s * 1e6, rtt_s=0.002)
    before = bed.counts()
    name, [_, took_s], _ = exchanges(bed, (100, 0), (size_bytes, 0))
    ideal_s = size_bytes * 1500 / 1448 * 8 / (mbit_per_s * 1e6)
    assert name == "cubic"
    assert took_s > 0.99 * ideal_s
    assert bed.counts().uplink_bytes - before.uplink_bytes > size_bytes


@needs_bed
def test_the_pipe_delays_and_a_new_connection_pays_for_it(bed: RealBed):
    bed.set_link(uplink_bits_per_s=64e6, rtt_s=0.06)
    _, took_s, _ = exchanges(bed, (100, 0), (100, 0))
    assert min(took_s) >= 0.06


@needs_bed
def test_a_rate_of_its_own_for_each_direction(bed: RealBed):
    bed.set_link(uplink_bits_per_s=64e6, downlink_bits_per_s=0.05e6, rtt_s=0.0)
    # At the downlink's rate the message would take a minute and be given up.
    _, [took_s], _ = exchanges(bed, (400_000, 0))
    assert took_s >= 0.0085, "the reply's 53 bytes"


@needs_bed
def test_slow_start_is_seen_after_idle_time(bed: RealBed):
    bed.set_link(uplink_bits_per_s=64e6, rtt_s=0.06)
    steps = [(150_000, 0)] * 3 + [(150_000, 8)]
    _, [*_, idle_s], [new, *_, warm] = exchanges(bed, *steps)
    assert new == 10
    assert warm > 40
    assert idle_s > 0.06 * 3.9  # 14.5, 29, 58 and 116 KB are four rounds


@needs_bed
def test_a_full_queue_drops(bed: RealBed):
    bed.set_link(uplink_bits_per_s=1e6, rtt_s=0.0)
    before = bed.counts().uplink_dropped
    bed.start("device", [sys.executable, "-c", BURST, bed.server_address]).wait()
    until_s = time.monotonic() + 60
    while bed.counts().uplink_dropped == before:
        assert time.monotonic() < until_s


@needs_bed
def test_the_quota_slows_the_device_and_not_the_server():
    with RealBed(uplink_bits_per_s=16e6, rtt_s=0.0, device_cpu_ratio=0.2) as bed:
        members = bed._quota.path / "cgroup.procs"

        def spin(side: str) -> tuple[float, float]:
            """Return the share of a processor, and how long it was had at a time, seconds."""
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = bed.start(side, [sys.executable, "-c", SPIN], **pipes)
            assert process.stdout.readline() == b"ready\n"
            assert (str(process.pid) in members.read_text().split()) is (side == "device")
            share, run_s = map(float, process.communicate(b"\n")[0].split())
            return share, run_s

        for ratio in (0.2, 0.1):
            bed.set_device_cpu(ratio)
            share, run_s = spin("device")
            assert 0 < share < 1.5 * ratio
            assert run_s < 0.004  # the kernel alone would let it run for a tick
        spin("server")
        bed.set_device_cpu(1.0)
        limits = {"cpu.max": "max", "cpu.cfs_quota_us": "-1"}
        found = [(bed._quota.path / name, free) for name, free in limits.items()]
        assert any(path.exists() and path.read_text().split()[0] == free for path, free in found)


@needs_bed
def test_nothing_is_left():
    with RealBed(uplink_bits_per_s=1e6, rtt_s=0.0) as bed:
        sleepers = [bed.start(side, ["sleep", "60"]) for side in ("device", "server")]
        pipe = Path(bed._networks["device"]).parents[1]
        path = bed._quota.path
        assert path.exists()
        assert pipe.exists()
    assert not path.exists()
    assert not pipe.exists()
    assert all(sleeper.poll() is not None for sleeper in sleepers)
    with pytest.raises(LabError, match="with statement"):
        bed.start("device", ["true"])


@needs_bed
def test_nothing_is_left_of_one_that_was_killed():
    script = (
        "import os, signal, sys\n"
        "from isthmus.lab.real_bed import RealBed\n"
        "bed = RealBed(uplink_bits_per_s=1e6, rtt_s=0.0).__enter__()\n"
        "process = bed.start('device', ['sleep', '60'])\n"
        "print(bed._quota.path, bed._networks['device'].split('/')[2], process.pid, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as owner:
        path, *processes = owner.stdout.readline().split()
        owner.send_signal(signal.SIGKILL)
    until_s = time.monotonic() + 60
    while any(Path(f"/proc/{process}/exe").exists() for process in processes):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    assert Path(path).exists()  # who would have removed it?
    with RealBed(uplink_bits_per_s=1e6, rtt_s=0.0):
        assert not Path(path).exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"uplink_bits_per_s": 0.0}, "rate must be"),
        ({"rtt_s": -1.0}, "round trip must be"),
        ({"device_cpu_ratio": 0.0}, "share of a processor"),
        ({"device_cpu_ratio": 1.5}, "share of a processor"),
    ],
)
def test_impossible_limits_are_named(values: dict[str, float], message: str):
    with pytest.raises(ConditionsError, match=message):
        RealBed(**{"uplink_bits_per_s": 1e6, "rtt_s": 0.0, **values})


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(real_bed, "_capabilities", lambda: 1 << 12)
    assert "CAP_SYS_ADMIN" in missing()
    monkeypatch.setattr(real_bed, "_capabilities", lambda: -1)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "/dev/net/tun" in missing()
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    monkeypatch.setattr(real_bed.shutil, "which", lambda name: None)
    assert "iproute2" in missing()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in missing()
    with pytest.raises(LabError, match="root"), RealBed(uplink_bits_per_s=1e6, rtt_s=0.0):
        pass

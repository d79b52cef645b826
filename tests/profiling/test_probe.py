import dataclasses

import pytest

from isthmus.errors import NoPlanError, ServerUnreachableError
from isthmus.estimation.link import LinkEstimate
from isthmus.profiling.probe import probe_again, probe_link
from isthmus.runtime import codecs, protocol
from isthmus.runtime.heads import Heads
from isthmus.runtime.plan_runner import PlanRunner
from isthmus.runtime.transport import Exchange, HttpTransport
from isthmus.types.link import INITIAL_WINDOW_BYTES, Link
from isthmus.types.plan import PlanRow

ROW = PlanRow("net", "file", unit="net.image", has_pixels=True)


class Path:
    """A server behind a link of exactly this rate and round trip; its own work is reported."""

    is_connected = True

    def __init__(self, bytes_per_s, rtt_s, server_s=0.004):
        self.bytes_per_s = bytes_per_s
        self.rtt_s = rtt_s
        self.server_s = server_s
        self.sent = []

    def exchange(self, method, path, *, headers=None, body=b"", timeout_s):
        sent = len(body) + 180
        self.sent.append((path, len(body)))
        reply, timing = b"", {}
        if method == "POST":
            import numpy as np

            tensor = codecs.CODECS["raw"].encode(np.zeros((1, 10), np.float32))
            outputs = (protocol.WireTensor("logits", tensor),)
            reply_headers, reply = protocol.pack_reply(protocol.InferReply("net", outputs))
            timing = {k.lower(): v for k, v in reply_headers.items()}
            timing["server-timing"] = f"total;dur={self.server_s * 1e3}"
        network_s = self.rtt_s + (sent + len(reply) + 200) / self.bytes_per_s
        elapsed_s = network_s + (self.server_s if reply else 0)
        return Exchange(timing, reply, sent, len(reply), 0.0, elapsed_s)

    def close(self):
        pass


def runner(transport):
    return PlanRunner({}, Heads(lambda *_: None), transport)


PHOTOGRAPHS = tuple(bytes(size) for size in (400_000, 150_000, 250_000, 900_000))


@pytest.mark.parametrize("rtt_s", [0.002, 0.020, 0.100])
@pytest.mark.parametrize("bits_per_s", [1e6, 10e6, 100e6])
def test_rate_and_round_trip_are_found_within_a_tenth(bits_per_s, rtt_s):
    link = probe_link(runner(Path(bits_per_s / 8, rtt_s)), ROW, PHOTOGRAPHS).link
    assert link.uplink_bytes_per_s == pytest.approx(bits_per_s / 8, rel=0.1)
    # of a small message, whose own bytes may take as long as the round trip
    small_s = rtt_s + 380 * 8 / bits_per_s
    assert link.rtt_s + 380 / link.uplink_bytes_per_s == pytest.approx(small_s, rel=0.1)


def test_a_slow_link_is_sent_no_more_than_is_needed():
    slow = Path(1e6 / 8, 0.020)
    probe_link(runner(slow), ROW, PHOTOGRAPHS)
    assert [size for _, size in slow.sent if size > 1000] == [pytest.approx(150_000, rel=0.01)]


def test_a_fast_link_is_sent_the_smallest_three():
    fast = Path(1e9 / 8, 0.001)
    probe_link(runner(fast), ROW, PHOTOGRAPHS)
    sizes = [size for _, size in fast.sent if size > 1000]
    assert sizes == [pytest.approx(n, rel=0.01) for n in (150_000, 250_000, 400_000)]
    assert [path for path, _ in fast.sent] == ["v2/health/ready"] * 3 + [
        "v2/models/net.image/infer"
    ] * 3


def test_the_servers_own_time_is_not_the_links():
    quick, busy = (
        probe_link(runner(Path(1e6, 0.01, server_s)), ROW, PHOTOGRAPHS).link
        for server_s in (0.001, 5.0)
    )
    assert quick.uplink_bytes_per_s == pytest.approx(busy.uplink_bytes_per_s)


def test_without_a_server_there_is_nothing_to_probe():
    with pytest.raises(NoPlanError, match="no server"):
        probe_link(runner(None), ROW, PHOTOGRAPHS)


def test_a_server_that_fails_is_named():
    class Dead(Path):
        def exchange(self, *_, **__):
            raise ServerUnreachableError("gone")

    with pytest.raises(ServerUnreachableError):
        probe_link(runner(Dead(1e6, 0.01)), ROW, PHOTOGRAPHS)


@pytest.mark.parametrize(
    ("rtt_s", "chosen"), [(0.01, 150_000), (0.1, 250_000), (0.15, 400_000), (3.0, 900_000)]
)
def test_a_later_probe_sends_as_much_as_tells_the_rate(rtt_s, chosen):
    path = Path(2e6, rtt_s)
    known = Link(1e6, 1e6, rtt_s, 0.1, 0.1, 0.1 * rtt_s)
    after = probe_again(runner(path), ROW, PHOTOGRAPHS, LinkEstimate.from_link(known))
    assert [size for _, size in path.sent] == [pytest.approx(chosen, rel=0.01)]
    assert after.link.uplink_bytes_per_s > 1.3e6 or rtt_s > 1
    assert after.rtt_s == pytest.approx(rtt_s, rel=0.15)


def test_slow_start_while_probing_is_not_the_links_rate():
    class Slow(HttpTransport):
        """A path of 1 MB/s and 100 ms whose window is the initial one before each request."""

        def __init__(self):
            super().__init__("http://127.0.0.1:9")
            self.path = Path(1e6, 0.1, 0.0)

        def window_bytes(self, rtt_s):
            return INITIAL_WINDOW_BYTES

        def exchange(self, *arguments, **named):
            one = self.path.exchange(*arguments, **named)
            lost_s = Link(1e6, 1e6, 0.1).stall_s(one.sent_bytes, INITIAL_WINDOW_BYTES)
            return dataclasses.replace(one, elapsed_s=one.elapsed_s + lost_s)

    link = probe_link(runner(Slow()), ROW, PHOTOGRAPHS).link
    assert link.uplink_bytes_per_s == pytest.approx(1e6, rel=0.05)
    assert link.rtt_s == pytest.approx(0.1, rel=0.05)

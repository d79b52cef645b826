"""A device that becomes slower, a server that does, and a link: the device notices by itself.

Requests are made for real, but what they take is planted, so that a busy machine teaches nothing.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

import isthmus_zoo
from isthmus import Device, Rules
from isthmus.device import answerer, client
from isthmus.lab.shaper import ShapedLink
from isthmus.runtime import plan_runner
from isthmus.runtime.transport import HttpTransport

_LITE0 = Rules("least_latency", variants=frozenset({"efficientnet-lite0"}))
_STAGE_S, _SERVER_S, _RTT_S = 0.030, 0.025, 0.010
_LONG_S = 100.0  # never waited for


@pytest.fixture(scope="module")
def photograph():
    return next(p for p in isthmus_zoo.photograph_paths() if p.name == "bee.jpg").read_bytes()


@pytest.fixture(scope="module")
def known_bundle(bundle, planted):
    """A profile that is another machine's, and the same on every one."""
    return planted(bundle)


class World:
    """A clock that stages of the device and exchanges move on; also a ``Pace``."""

    def __init__(self):
        self.now = 100.0
        self.factor = 1.0
        self.bits_per_s = 30e6

    def __call__(self):
        return self.now

    def after(self, busy_s):
        assert busy_s == 0.0, "the stage itself takes no time of this clock"
        self.now += self.factor * _STAGE_S


@pytest.fixture
def world(monkeypatch):
    found = World()

    class Planted(HttpTransport):
        """Asks the server for real, and tells what it would take over the world's link."""

        def window_bytes(self, rtt_s):
            return math.inf

        def exchange(self, method, path, **options):
            made = super().exchange(method, path, **options)
            server_s = _SERVER_S if path.endswith("/infer") else 0.0
            size_bytes = made.sent_bytes + made.received_bytes
            elapsed_s = _RTT_S + size_bytes * 8 / found.bits_per_s + server_s
            found.now += elapsed_s
            timing = f"total;dur={server_s * 1e3:g}"
            headers = {**made.headers, "server-timing": timing}
            return replace(made, headers=headers, connect_s=0.0, elapsed_s=elapsed_s)

    for module in (answerer, plan_runner):
        monkeypatch.setattr(module, "now_s", found)
    monkeypatch.setattr(client, "HttpTransport", Planted)
    return found


def test_a_slower_device_is_noticed_and_nothing_else(known_bundle, world, photograph):
    with Device(known_bundle, rules=_LITE0, pace=world, is_probing=False) as device:
        for _ in range(6):
            device.infer(photograph)
        before = device.residuals
        world.factor = 3.0
        for _ in range(10):
            device.infer(photograph)
        after = device.residuals
    assert after.device.mean / before.device.mean == pytest.approx(3, rel=0.1)
    assert after.server == before.server


def test_a_slower_link_is_noticed_and_nothing_else(known_bundle, server, world, photograph):
    rules = replace(_LITE0, families=frozenset({"file"}))
    with Device(
        known_bundle,
        server=server.url,
        rules=rules,
        pace=world,
        is_probing=False,
        timeout_s=_LONG_S,
    ) as device:
        for _ in range(6):
            device.infer(photograph)
        link, before = device.link, device.residuals
        world.bits_per_s /= 3
        outcomes = [device.infer(photograph) for _ in range(10)]
        after = device.link
        assert device.residuals.server.mean == pytest.approx(before.server.mean, rel=0.01)
    assert after.uplink_bytes_per_s / link.uplink_bytes_per_s == pytest.approx(1 / 3, rel=0.2)
    for outcome in outcomes[5:]:
        assert outcome.plan.stages_s["upload"] == pytest.approx(outcome.timeline.upload_s, rel=0.2)


def test_no_time_is_unaccounted_for(bundle, server, world, photograph):
    with Device(
        bundle, server=server.url, rules=_LITE0, pace=world, is_probing=False, timeout_s=_LONG_S
    ) as device:
        for family in ("file", "resized", "split", "local"):
            rules = replace(_LITE0, families=frozenset({family}))
            before_s = world.now
            timeline = device.infer(photograph, rules=rules).timeline
            assert timeline.total_s == pytest.approx(world.now - before_s)
            assert timeline.unaccounted_s == pytest.approx(0, abs=1e-9)


def test_a_link_that_became_faster_is_noticed_although_nobody_uses_it(
    bundle, planted, server, photograph, monkeypatch
):
    """Too slow to be used, the link is looked at in the background until it is worth using."""
    monkeypatch.setattr("isthmus.device.probes._QUIET_S", 0.0)
    monkeypatch.setattr("isthmus.device.prober._FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr("isthmus.device.prober._LONGEST_PAUSE_S", 0.05)

    class Slow:
        """A device that takes a tenth of a second longer for every stage."""

        factor = 1.0

        def after(self, busy_s):
            time.sleep(0.1)

    rules = replace(_LITE0, families=frozenset({"file", "local"}))
    with (
        ShapedLink(server.url, rate_bits_per_s=1e6, rtt_s=0.01) as link,
        Device(
            planted(bundle), server=link.url, rules=rules, pace=Slow(), timeout_s=_LONG_S
        ) as device,
    ):
        assert device.infer(photograph).source == "device"
        link.set(rate_bits_per_s=200e6)
        while device.infer(photograph).source != "edge":
            pass


def test_a_late_answer_is_replaced_by_the_hedges(bundle, planted, server, photograph):
    """The link slows down to a crawl, and the smaller network answers by the deadline."""
    half_slow = planted(bundle, lambda row: row.variant != "squeezenet-1.1")
    rules = Rules(hedge_above_ratio=0.0, families=frozenset({"file", "local"}))
    with (
        ShapedLink(server.url, rate_bits_per_s=50e6, rtt_s=0.01) as link,
        Device(half_slow, server=link.url, timeout_s=_LONG_S, is_probing=False) as device,
    ):
        link.set(rate_bits_per_s=0.1e6)  # the photograph takes 19 s
        during = device.infer(photograph, rules=replace(rules, deadline_s=1.0))
        link.set(rate_bits_per_s=50e6)
        after = device.infer(photograph, rules=replace(rules, deadline_s=_LONG_S))
    assert (during.hedge, during.source, during.error) == ("won", "device", "")
    assert during.plan.row.variant == "efficientnet-lite2"
    assert during.plan.hedge.row.variant == "squeezenet-1.1"
    assert during.timeline.total_s > 0.9, "the server was waited for"
    assert (after.source, after.hedge) == ("edge", "spared"), (
        "the connection is replaced, and one late answer is no end"
    )

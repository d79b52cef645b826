"""A device that becomes slower, a server that does, and a link: the device notices by itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from statistics import median

import pytest

import isthmus_zoo
from isthmus import Device, Rules
from isthmus.lab.emulation import SlowedPace
from isthmus.lab.shaper import ShapedLink
from isthmus.loading.bundle import open_bundle, save_profile
from isthmus.types.plan import STAGES

_LITE0 = Rules("least_latency", variants=frozenset({"efficientnet-lite0"}))


@pytest.fixture(scope="module")
def photograph():
    return next(p for p in isthmus_zoo.photograph_paths() if p.name == "bee.jpg").read_bytes()


def test_a_slower_device_is_noticed_and_nothing_else(bundle, photograph):
    pace = SlowedPace(1.0)
    with Device(bundle, rules=_LITE0, pace=pace) as device:
        for _ in range(6):
            device.infer(photograph)
        before = device.residuals
        pace.factor = 3.0
        for _ in range(10):
            device.infer(photograph)
        after = device.residuals
    assert after.device.mean / before.device.mean == pytest.approx(3, rel=0.5)
    assert after.server == before.server


def test_a_slower_link_is_noticed_and_nothing_else(bundle, server, photograph):
    rules = replace(_LITE0, families=frozenset({"file"}))
    with (
        ShapedLink(server.url, rate_bits_per_s=30e6, rtt_s=0.01) as link,
        Device(bundle, server=link.url, rules=rules, is_probing=False) as device,
    ):
        for _ in range(6):
            device.infer(photograph)
        before = device.link
        link.set(rate_bits_per_s=10e6)
        outcomes = [device.infer(photograph) for _ in range(10)]
        after, sites = device.link, device.residuals
    assert after.uplink_bytes_per_s / before.uplink_bytes_per_s == pytest.approx(1 / 3, rel=0.3)
    assert sites.server.mean == pytest.approx(1, rel=0.6)
    errors = [abs(o.plan.stages_s["upload"] / o.timeline.upload_s - 1) for o in outcomes[5:]]
    assert median(errors) < 0.2


def test_a_link_that_became_faster_is_noticed_although_nobody_uses_it(
    bundle, server, photograph, monkeypatch
):
    """Too slow to be used, the link is looked at in the background until it is worth using."""
    monkeypatch.setattr("isthmus.device.probes._QUIET_S", 0.0)
    monkeypatch.setattr("isthmus.device.prober._FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr("isthmus.device.prober._LONGEST_PAUSE_S", 0.05)
    rules = replace(_LITE0, families=frozenset({"file", "local"}))
    with (
        ShapedLink(server.url, rate_bits_per_s=1e6, rtt_s=0.01) as link,
        Device(bundle, server=link.url, rules=rules, pace=SlowedPace(30.0)) as device,
    ):
        assert device.infer(photograph).source == "device"
        link.set(rate_bits_per_s=200e6)
        sources = []
        while "edge" not in sources and len(sources) < 60:
            sources.append(device.infer(photograph).source)
    assert sources[-1] == "edge"


@pytest.fixture(scope="module")
def half_slow_bundle(bundle, tmp_path_factory):
    """The bundle of a device that believes to be fast enough for the smallest network alone."""
    path = tmp_path_factory.mktemp("slow") / "app.isthmus"
    shutil.copytree(bundle.path, path)
    table = bundle.profiled_table()
    coefficients = table.coefficients.copy()
    large = [i for i, row in enumerate(table.rows) if row.variant != "squeezenet-1.1"]
    coefficients[large, STAGES.index("head")] *= 10_000
    save_profile(path, replace(table, coefficients=coefficients), bundle.profile)
    return open_bundle(path)


def test_a_late_answer_is_replaced_by_the_hedges(half_slow_bundle, server, photograph):
    """The link slows down to a crawl, and the smaller network answers by the deadline."""
    deadline_s = 1.0
    rules = Rules(
        deadline_s=deadline_s, hedge_above_ratio=0.0, families=frozenset({"file", "local"})
    )
    with (
        ShapedLink(server.url, rate_bits_per_s=50e6, rtt_s=0.01) as link,
        Device(half_slow_bundle, server=link.url, is_probing=False) as device,
    ):
        before = device.infer(photograph, rules=rules)
        link.set(rate_bits_per_s=0.1e6)
        during = device.infer(photograph, rules=rules)
        link.set(rate_bits_per_s=50e6)
        after = device.infer(photograph, rules=rules)
    assert (before.source, before.hedge) == ("edge", "spared")
    assert before.plan.row.variant == "efficientnet-lite2"
    assert (during.hedge, during.source, during.error) == ("won", "device", "")
    assert during.plan.hedge.row.variant == "squeezenet-1.1"
    assert during.timeline.total_s == pytest.approx(deadline_s, abs=0.2)
    assert after.source == "edge", "the connection is replaced, and one late answer is no end"

"""A device and an edge server in processes of their own, over real sockets."""

from __future__ import annotations

import io
import shutil
import threading
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import isthmus_zoo
from isthmus import Device, Rules
from isthmus.device import server_watch
from isthmus.errors import CodecError
from isthmus.lab.server_process import ServerProcess
from isthmus.lab.shaper import ShapedLink
from isthmus.runtime import codecs
from isthmus.types.outcome import Timeline

_LITE0 = Rules("least_latency", variants=frozenset({"efficientnet-lite0"}))
_FILE_OR_LOCAL = replace(_LITE0, families=frozenset({"file", "local"}))
_LONG_S = 100.0  # never waited for
_PATIENT = {"timeout_s": _LONG_S, "is_probing": False}
_CRAWL_BITS_PER_S = 0.1e6
"""The photograph takes 19 s, whatever the machine does."""


@pytest.fixture(scope="module")
def photograph():
    return next(p for p in isthmus_zoo.photograph_paths() if p.name == "bee.jpg").read_bytes()


def test_timeline_adds_up_to_the_total(slow_bundle, server, photograph):
    with Device(slow_bundle, server=server.url, rules=_LITE0, **_PATIENT) as device:
        outcome = device.infer(photograph)
    timeline = outcome.timeline
    assert outcome.source in ("edge", "split")
    assert outcome.sent_bytes > 0
    assert timeline.server_s > 0
    assert timeline.upload_s > 0
    assert timeline.unaccounted_s >= 0, "nothing is counted twice"
    assert isinstance(timeline, Timeline)


def test_without_server_everything_runs_on_the_device(bundle, photograph):
    with Device(bundle, rules=_LITE0, **_PATIENT) as device:
        outcome = device.infer(photograph)
    assert (outcome.source, outcome.plan.row.family, outcome.sent_bytes) == ("device", "local", 0)


def test_a_closed_device_loads_nothing_again(bundle, photograph):
    with Device(bundle, rules=_LITE0, **_PATIENT) as device:
        pass
    for ask in (device.infer, device.decide):
        with pytest.raises(ValueError, match="closed"):
            ask(photograph)
    device.close()


def test_deadline_picks_the_most_accurate_that_fits(bundle, planted, photograph):
    with Device(planted(bundle)) as device:
        loose = device.infer(photograph, deadline_s=_LONG_S)
        tight = device.infer(photograph, deadline_s=1e-6)
    assert loose.plan.row.variant == "efficientnet-lite2"
    assert loose.is_deadline_met
    assert loose.plan.slack_s > 0
    assert tight.is_deadline_met is False
    assert tight.plan.slack_s < 0


def test_server_killed_in_mid_request_leads_to_a_local_answer(slow_bundle, zoo_folder, photograph):
    """The server dies while the photograph is on its way; the device answers all the same."""
    with ServerProcess(zoo_folder) as mortal:
        link_to_it = ShapedLink(mortal.url, rate_bits_per_s=50e6, rtt_s=0.01)
        with (
            link_to_it as link,
            Device(slow_bundle, server=link.url, rules=_FILE_OR_LOCAL, **_PATIENT) as device,
        ):
            before = device.infer(photograph)
            link.set(rate_bits_per_s=_CRAWL_BITS_PER_S)
            killer = threading.Thread(target=_kill_once_sending, args=(mortal, link))
            killer.start()
            during = device.infer(photograph)
            killer.join()
            after = device.infer(photograph)
    assert (before.source, before.error) == ("edge", "")
    assert during.source == "fallback"
    assert "ServerUnreachableError" in during.error
    assert during.plan.row.family == "local"
    assert [plan.row.family for plan in during.replaced] == ["file"]
    assert before.replaced == ()
    assert after.source == "device", "a dead server is not asked again at once"
    for outcome in (during, after):
        top = [int(np.argmax(o.outputs["logits"])) for o in (before, outcome)]
        assert top[0] == top[1]


def _kill_once_sending(mortal, link):
    start = link.sent_bytes()
    pause = threading.Event()
    while link.sent_bytes() == start:
        pause.wait(0.005)
    mortal.kill()


def test_one_late_answer_is_no_end(slow_bundle, server, photograph):
    """It was cut off at its deadline; the server is there, and the next request may go to it."""
    with (
        ShapedLink(server.url, rate_bits_per_s=50e6, rtt_s=0.01) as link,
        Device(slow_bundle, server=link.url, rules=_FILE_OR_LOCAL, **_PATIENT) as device,
    ):
        link.set(rate_bits_per_s=_CRAWL_BITS_PER_S)
        during = device.infer(photograph, rules=replace(_FILE_OR_LOCAL, deadline_s=1.0))
        link.set(rate_bits_per_s=50e6)
        after = device.infer(photograph)
    assert (during.source, after.source) == ("fallback", "edge")
    assert "RemoteTimeoutError" in during.error


def test_a_restarted_server_gets_its_tails_again(slow_bundle, zoo_folder, photograph):
    """A server that has forgotten its tails is asked to make them again, in the background."""
    rules = replace(_LITE0, families=frozenset({"split", "local"}))
    with ServerProcess(zoo_folder) as first:
        with ShapedLink(first.url, rate_bits_per_s=1e8, rtt_s=0.002) as link:
            with Device(slow_bundle, server=link.url, rules=rules, **_PATIENT) as device:
                assert device.infer(photograph).source == "split"
    with (
        ServerProcess(zoo_folder) as second,
        Device(slow_bundle, server=second.url, rules=rules, **_PATIENT) as device,
    ):
        assert device.infer(photograph).source == "split"


def test_a_server_without_the_network_is_sent_one_photograph_only(
    slow_bundle, zoo_folder, photograph, tmp_path
):
    """Its other networks may be there, so it is not avoided, but this one is."""
    shutil.copy(zoo_folder / "squeezenet-1.1.onnx", tmp_path)
    with (
        ServerProcess(tmp_path) as ignorant,
        Device(slow_bundle, server=ignorant.url, rules=_FILE_OR_LOCAL, **_PATIENT) as device,
    ):
        first, second = device.infer(photograph), device.infer(photograph)
        assert device.is_server_available
    assert (first.source, second.source) == ("fallback", "device")
    assert "404" in first.error


def test_bytes_on_the_wire_are_the_outcomes(bundle, server, photograph):
    """The relay counts what the outcome says was sent, and no transfer beats its rate."""
    rate_bits_per_s = 8e6
    rules = replace(_LITE0, families=frozenset({"file", "resized", "tensor"}))
    with ShapedLink(server.url, rate_bits_per_s=rate_bits_per_s, rtt_s=0.02) as link:
        with Device(bundle, server=link.url, rules=rules, **_PATIENT) as device:
            for family in ("file", "resized", "tensor"):
                before = link.sent_bytes()
                outcome = device.infer(
                    photograph, rules=replace(rules, families=frozenset({family}))
                )
                assert outcome.plan.row.family == family
                assert link.sent_bytes() - before == outcome.sent_bytes
                network_s = outcome.timeline.upload_s + outcome.timeline.download_s
                assert network_s >= 0.02 + outcome.sent_bytes * 8 / rate_bits_per_s


def test_a_plan_that_gave_way_to_another_midway_is_told(slow_bundle, server):
    """Noise makes an image several times as large as photographs do: more than may be sent."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=95)
    rules = replace(_LITE0, families=frozenset({"resized", "local"}))
    with Device(slow_bundle, server=server.url, rules=rules, is_probing=False) as device:
        expected = device.decide(file.getvalue())
        most_bytes = 1.2 * expected.sent_bytes
        outcome = device.infer(file.getvalue(), rules=replace(rules, max_sent_bytes=most_bytes))
    assert expected.row.family == "resized"
    assert [plan.row for plan in outcome.replaced] == [expected.row]
    assert (outcome.source, outcome.plan.row.family) == ("device", "local")
    assert (outcome.error, outcome.sent_bytes) == ("", 0)


def test_a_server_that_decodes_otherwise_is_sent_no_photograph(
    slow_bundle, server, photograph, monkeypatch
):
    """And says so, as it does of other threads than those that were profiled."""
    here = server_watch.fingerprint()
    others = [255 - level for level in here["golden_pixels"]]
    monkeypatch.setattr(server_watch, "fingerprint", lambda: {**here, "golden_pixels": others})
    rules = replace(_LITE0, families=frozenset({"file", "resized", "tensor"}))
    with Device(slow_bundle, server=server.url, rules=rules, threads=2) as device:
        assert device.infer(photograph).plan.row.family == "tensor"
        allowed = replace(rules, allow_other_pixels=True)
        assert device.infer(photograph, rules=allowed).plan.row.family == "file"
        assert "grey levels apart" in device.disagreements[0]
        assert ["2 threads" in told for told in device.departures] == [True]
        assert not device.decodes_alike


def test_no_pixels_leave(slow_bundle, server, photograph):
    rules = replace(_LITE0, no_pixels_leave=True)
    with Device(slow_bundle, server=server.url, rules=rules, **_PATIENT) as device:
        outcome = device.infer(photograph)
    assert outcome.plan.row.family in ("split", "local")
    assert not outcome.plan.row.has_pixels


def test_a_tensor_that_cannot_be_encoded_leads_to_a_local_answer(
    slow_bundle, server, photograph, monkeypatch
):
    def refuse(array):
        raise CodecError("not a number")

    monkeypatch.setattr(codecs, "CODECS", dict.fromkeys(codecs.CODECS, Mock(encode=refuse)))
    rules = replace(_LITE0, families=frozenset({"split", "local"}))
    with Device(slow_bundle, server=server.url, rules=rules, **_PATIENT) as device:
        outcome = device.infer(photograph)
        assert device.is_server_available, "it is not the server's fault"
    assert (outcome.source, outcome.plan.row.family) == ("fallback", "local")
    assert outcome.error == "CodecError: not a number"

"""A device with a small network and a server of its own: threads, processes and deadlines."""

import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from isthmus import Device, Rules
from isthmus.building.build import build_bundle
from isthmus.device import answerer, prober, probes
from isthmus.device.hedged import HedgedRun, HedgedSender
from isthmus.device.server_watch import ServerWatch
from isthmus.errors import RemoteTimeoutError, ServerUnreachableError
from isthmus.lab.server_process import ServerProcess
from isthmus.lab.shaper import ShapedLink
from isthmus.loading.bundle import open_bundle, save_profile
from isthmus.planning.columns import columns_for
from isthmus.planning.plan_table import PlanEntry, compile_table, link_terms
from isthmus.runtime.plan_runner import PlanRunner, Run

LINK = {"uplink_bytes_per_s": 1e7, "downlink_bytes_per_s": 1e7, "rtt_s": 0.002}
COSTS = {"file": (0.0, 0.002), "resized": (0.03, 0.002),
         "tensor": (0.03, 0.002), "split": (0.05, 0.002)}  # fmt: skip
ONLY_FILES = Rules(families=frozenset({"file"}))
REQUESTS = 12
LOST = ServerUnreachableError("gone")
ONE_DECODER = Rules("least_latency", families=frozenset({"file", "local"}))


@pytest.fixture(scope="module")
def built(small_model_path, photograph_files, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "app.isthmus"
    build_bundle({"small": small_model_path}, path, calibration=photograph_files)
    return path


def profiled(path, local_s):
    """Return a bundle with made-up costs."""
    entries = []
    for candidate in open_bundle(path).candidates:
        device_s, server_s = {**COSTS, "local": (local_s, 0.0)}[candidate.row.family]
        terms = {"head": {"device": device_s}, "server": {"server": server_s}}
        if candidate.row.is_local:
            del terms["server"]
        link = link_terms(candidate.row.family, sent_bytes=2000.0, received_bytes=200)
        entries.append(PlanEntry(candidate.row, terms | link, sent_bytes=2000.0, accuracy=0.75))
    save_profile(path, compile_table(entries, columns_for([20])), {"link": LINK})
    return open_bundle(path)


@pytest.fixture(scope="module")
def bundle(built, tmp_path_factory):
    """A bundle of a device that would take ten seconds by itself."""
    return profiled(shutil.copytree(built, tmp_path_factory.mktemp("slow") / "a"), 10.0)


@pytest.fixture(scope="module")
def quick_bundle(built, tmp_path_factory):
    """A bundle of a device that is about as fast as the server, so that hedges help."""
    return profiled(shutil.copytree(built, tmp_path_factory.mktemp("quick") / "a"), 0.004)


@pytest.fixture(scope="module")
def server(small_model_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "small.onnx").write_bytes(small_model_path.read_bytes())
    with ServerProcess(folder) as process:
        yield process


@pytest.fixture(scope="module")
def photographs(make_photograph):
    return [make_photograph(seed=seed) for seed in range(6)]


@pytest.fixture(scope="module")
def expected(bundle, photographs):
    """What the device answers by itself."""
    with Device(bundle) as device:
        return [device.infer(one).outputs["logits"] for one in photographs]


def test_every_request_gets_its_own_answer_whatever_else_goes_on(
    quick_bundle, server, photographs, expected, monkeypatch
):
    """Two devices, six threads, hedges won and lost, probes without a pause, and then the end."""
    monkeypatch.setattr(probes, "_QUIET_S", 0.0)
    monkeypatch.setattr(probes, "_SUSPECT_RATIO", 0.0)
    monkeypatch.setattr(prober, "_FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(prober, "_LONGEST_PAUSE_S", 0.0)

    def ask(device, seed):
        drawn = random.Random(seed)
        seen = set()
        for _ in range(REQUESTS):
            number = drawn.randrange(len(photographs))
            hurried = Rules(
                families=ONE_DECODER.families,
                deadline_s=drawn.choice([0.004, 0.008, 0.120, 5.0]),
                hedge_above_ratio=drawn.choice([None, 0.0]),
            )
            rules = drawn.choice([hurried, hurried, ONLY_FILES])
            outcome = device.infer(photographs[number], rules=rules)
            np.testing.assert_allclose(outcome.outputs["logits"], expected[number], atol=1e-4)
            seen.add((outcome.source, outcome.hedge))
        return seen

    with (
        ShapedLink(server.url, rate_bits_per_s=20e6, rtt_s=0.004) as link,
        Device(quick_bundle, server=link.url, rules=ONE_DECODER) as one,
        Device(quick_bundle, server=server.url, rules=ONE_DECODER) as other,
        ThreadPoolExecutor(6) as threads,
    ):
        asked = [threads.submit(ask, (one, other)[i % 2], i) for i in range(6)]
        seen = set.union(*(result.result() for result in asked))
    assert ("edge", "") in seen
    assert not [t for t in threading.enumerate() if t.name.startswith("isthmus")]


def test_a_process_that_was_forked_off_is_told_to_open_its_own(
    bundle, server, photographs, monkeypatch
):
    """It would read its parent's answers from the connection, and wait for a lock for ever."""
    with Device(bundle, server=server.url, rules=ONE_DECODER) as device:
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            for ask in (device.infer, device.decide):
                with pytest.raises(ValueError, match="another process"):
                    ask(photographs[0])
            device.close()
        assert device.infer(photographs[0]).source == "edge", "the parent's goes on"


def test_an_answer_is_waited_for_until_the_deadline_and_not_from_when_it_is_sent(
    bundle, server, photographs, monkeypatch
):
    """What the device took first is gone of it."""
    gone_s, waited_s = [0.0], []
    now_s, prepare, send = answerer.now_s, PlanRunner.prepare, PlanRunner.send

    def slow_prepare(self, row, job):
        gone_s[0] += 0.0 if row.is_local else 2.0
        return prepare(self, row, job)

    def late_send(self, prepared, job, *, timeout_s):
        if prepared.row.is_local:
            return send(self, prepared, job, timeout_s=timeout_s)
        waited_s.append(timeout_s)
        raise RemoteTimeoutError("late")

    rules = Rules("least_latency", families=ONE_DECODER.families, deadline_s=3.0)
    with Device(bundle, server=server.url, rules=rules, is_probing=False) as device:
        monkeypatch.setattr(answerer, "now_s", lambda: now_s() + gone_s[0])
        monkeypatch.setattr(PlanRunner, "prepare", slow_prepare)
        monkeypatch.setattr(PlanRunner, "send", late_send)
        outcome = device.infer(photographs[0])
        assert (outcome.source, outcome.error) == ("fallback", "RemoteTimeoutError: late")
        assert 0 < waited_s[0] <= 1.0


@pytest.mark.parametrize(("failure", "told"), [(None, "doubt"), (LOST, "report")])
def test_the_watch_hears_of_every_exchange_that_a_hedge_answered_for(
    bundle, server, photographs, monkeypatch, failure, told
):
    """A server that swallows requests would be asked again and again."""

    def won(self, prepared, job, hedge, **instants):
        assert hedge.is_local
        return HedgedRun(Run({}), job.times, "won", failure, 0.0 if failure else 1.0)

    heard = []
    monkeypatch.setattr(HedgedSender, "send", won)
    monkeypatch.setattr(ServerWatch, "doubt", lambda self: heard.append("doubt"))
    monkeypatch.setattr(ServerWatch, "report", lambda self, *_: heard.append("report"))
    rules = Rules(families=ONE_DECODER.families, deadline_s=60.0, hedge_above_ratio=0.0)
    with Device(bundle, server=server.url, rules=rules, is_probing=False) as device:
        outcome = device.infer(photographs[0])
    assert (outcome.source, outcome.hedge) == ("device", "won")
    assert heard == [told]

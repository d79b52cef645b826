"""The demo's settings, the order of its requests, and its figures from planted requests."""

from __future__ import annotations

import json
from collections import Counter, namedtuple
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise, permutations, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from isthmus.errors import LabError
from isthmus.lab import device_side
from isthmus.lab.demo import Part, Request, Setup, interleaved, read_settings
from isthmus.lab.device_side import Devices
from isthmus.lab.report import draw, summarise
from isthmus.runtime.clock import FULL_PACE
from isthmus.types.outcome import Outcome, Timeline
from isthmus.types.plan import Plan, PlanRow, Rules

_SECONDS = {"device_only": 0.2, "edge_file": 0.4, "edge_resized": 0.1, "isthmus": 0.08}


def _outcome(seconds: float, row: PlanRow) -> Outcome:
    plan = Plan(row, 0, seconds * 1.1, 0.0, 0.75, 1000.0, float("inf"), {})
    timeline = Timeline(decide_s=20e-6, head_s=seconds - 20e-6)
    source = "device" if row.is_local else "edge"
    return Outcome({"logits": np.zeros(3)}, source, plan, timeline, sent_bytes=1000)


def _requests(settings):
    for part in settings.parts:
        for rate in settings.links_mbit_per_s:
            for method, name in interleaved(part.methods, settings.photographs, 1):
                seconds = _SECONDS[method.removesuffix("_again")] / (
                    1 + rate * (method != "device_only")
                )
                row = PlanRow(
                    part.variant, "local" if method == "device_only" else "file", unit="u"
                )
                if method == "edge_file" and rate == 1.0:
                    yield Request(part.name, rate, method, name, 5.0, None, False, float("nan"))
                else:
                    outcome = _outcome(seconds, row)
                    yield Request(part.name, rate, method, name, seconds, outcome, True, 1e-6)


@pytest.fixture
def figures():
    settings = read_settings()
    return summarise(list(_requests(settings)), settings, Setup(None, {}, 12.0, 34.0))


def test_settings_are_those_of_the_demo():
    settings = read_settings()
    assert settings.links_mbit_per_s == (1, 4, 16, 64)
    assert settings.round_trip_s == 0.02
    assert settings.device_slowdown == 10
    assert settings.repeats >= 3
    assert settings.request_limit_s == 5
    latency, no_pixels = settings.parts
    assert latency.static == ("device_only", "edge_file", "edge_resized")
    assert latency.own == ("isthmus", "isthmus_again")
    assert no_pixels.no_pixels_leave
    assert not latency.no_pixels_leave


@pytest.mark.parametrize("text", ["repeats = 3", "repeats = ", "latency = 3"])
def test_malformed_settings_are_named(tmp_path: Path, text: str):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(LabError, match=r"settings\.toml is malformed"):
        read_settings(path)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_every_method_follows_every_other_equally_often(count: int):
    methods = "abcdef"[:count]
    photographs = [str(i) for i in range(2 * count)]
    made = list(interleaved(methods, photographs, 1))
    blocks = [made[i : i + count] for i in range(0, len(made), count)]
    assert [{name for _, name in block} for block in blocks] == [{name} for name in photographs]
    assert all(sorted(method for method, _ in block) == list(methods) for block in blocks)
    follows = Counter((a, b) for block in blocks for (a, _), (b, _) in pairwise(block))
    places = Counter((place, m) for block in blocks for place, (m, _) in enumerate(block))
    assert follows == dict.fromkeys(permutations(methods, 2), 2)
    assert places == dict.fromkeys(product(range(count), methods), 2)


def test_repeats_go_on_in_other_orders():
    order = [method for method, _ in interleaved(("a", "b"), ("x",), 2)]
    assert order == ["a", "b", "b", "a"]


def test_figures_have_the_promised_form(figures):
    assert set(figures) >= {
        "latency", "no_pixels", "agreement", "agreement_lossy", "prediction_error", "decide_us",
        "sources", "setup_s",
    }  # fmt: skip
    assert set(figures["latency"]["by_link"]) == {"1", "4", "16", "64"}
    assert set(figures["sources"]) == {"device", "edge", "split", "fallback"}
    assert figures["setup_s"] == {"build": 12.0, "profile": 34.0}
    json.dumps(figures, allow_nan=False)


def test_figures_are_computed_from_the_requests(figures):
    at_4 = figures["latency"]["by_link"]["4"]
    assert at_4["device_only"]["p50_ms"] == pytest.approx(200)
    assert at_4["isthmus"]["p50_ms"] == pytest.approx(80 / 5)
    assert at_4["isthmus"]["sent_bytes"] == 1000
    assert figures["latency"]["geomean_vs_static"]["edge_resized"] == pytest.approx(0.8)
    assert figures["latency"]["geomean_vs_best_static"] == pytest.approx(0.8)
    assert figures["latency"]["noise_floor_ratio"] == pytest.approx(0.0)
    assert figures["latency"]["vs_best_static_of_link"]["4"] == pytest.approx(0.8)
    assert figures["prediction_error"]["median"] == pytest.approx(0.1)
    assert figures["decide_us"]["p50"] == pytest.approx(20)
    assert figures["agreement_lossy"]["checked"] == 0


def test_methods_are_compared_on_the_same_photograph_in_the_same_turn():
    settings = read_settings()
    made = []
    for part in settings.parts:
        for rate in settings.links_mbit_per_s:
            factors = {"isthmus": iter([0.5] * 5 + [2.0] * 2), "device_only": iter([1.0] * 7)}
            for method, name in interleaved(part.methods, settings.photographs, 1):
                seconds = 10.0 ** settings.photographs.index(name)  # photographs differ by far
                seconds *= next(factors[method]) if method in factors else 3.0
                outcome = _outcome(seconds, PlanRow(part.variant, "local"))
                made.append(Request(part.name, rate, method, name, seconds, outcome, True, 0.0))
    figures = summarise(made, settings, Setup(None, {}, 0.0, 0.0))["latency"]
    at_4 = figures["by_link"]["4"]
    assert "isthmus_paired" not in at_4["isthmus"]
    assert at_4["device_only"]["isthmus_paired"] == {"median": 0.5, "interval_95": [0.5, 2.0]}
    assert at_4["isthmus_again"]["isthmus_paired"]["interval_95"] == [0.5 / 3, 2.0 / 3]
    assert figures["noise_floor_ratio"] == pytest.approx(5.0)
    best = figures["paired_vs_best_static_of_link"]["4"]
    assert best == {"method": "device_only", **at_4["device_only"]["isthmus_paired"]}


def test_few_pairs_have_no_interval(figures):
    settings = replace(read_settings(), photographs=("espresso.jpg",))
    few = summarise(list(_requests(settings)), settings, Setup(None, {}, 0.0, 0.0))
    paired = few["latency"]["by_link"]["4"]["isthmus_again"]["isthmus_paired"]
    assert paired == {"median": 1.0, "interval_95": None}


def test_every_photograph_is_decoded_before_the_first_request(monkeypatch):
    """Whoever was the first to need so much memory waited for it."""
    Resize = namedtuple("Resize", "resize_shorter_side_px")
    pipelines = {name: Resize(i) for i, name in enumerate("ABC")}
    variants = {name: SimpleNamespace(pipeline=pipelines[name]) for name in "ABC"}
    bundle = SimpleNamespace(variants=variants | {"D": SimpleNamespace(pipeline=None)})
    decoded = []
    monkeypatch.setattr(device_side, "open_bundle", lambda _: bundle)
    monkeypatch.setattr(device_side, "Device", lambda *_, **__: nullcontext())
    monkeypatch.setattr(
        device_side,
        "decode",
        lambda data, *, shorter_side_px: decoded.append((data, shorter_side_px)),
    )
    devices = Devices(
        bundle=Path("app"),
        url="http://edge",
        rules={"one": Rules(variants=frozenset("A")), "two": Rules(variants=frozenset("AC"))},
        photographs={"x": b"x", "y": b"y"},
        threads=1,
        limit_s=1.0,
    )
    with device_side.DevicesHere(FULL_PACE).opened(devices):
        assert sorted(decoded) == [(b"x", 0), (b"x", 2), (b"y", 0), (b"y", 2)]


def test_requests_cut_off_count_as_the_limit(figures):
    at_1 = figures["latency"]["by_link"]["1"]["edge_file"]
    assert at_1["p50_ms"] == 5000
    assert at_1["cut_off"] == at_1["requests"] == len(read_settings().photographs)


def test_the_figure_is_drawn(figures, tmp_path: Path):
    draw(figures, tmp_path / "demo.svg")
    text = (tmp_path / "demo.svg").read_text()
    assert "</svg>" in text


def test_rules_of_a_method():
    part = Part("no_pixels", "net", ("device_only",), ("isthmus",), no_pixels_leave=True)
    assert part.rules("device_only").families == {"local"}
    assert part.rules("isthmus").families is None
    assert part.rules("isthmus").no_pixels_leave

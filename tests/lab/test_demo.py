"""The demo's settings, the order of its requests, and its figures from planted requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isthmus.errors import LabError
from isthmus.lab.demo import Part, Request, Setup, interleaved, read_settings
from isthmus.lab.report import draw, summarise
from isthmus.types.outcome import Outcome, Timeline
from isthmus.types.plan import Plan, PlanRow

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


def test_methods_take_turns_in_beginning():
    order = list(interleaved(("a", "b", "c"), ("x", "y"), 2))
    assert order[:6] == [("a", "x"), ("b", "x"), ("c", "x"), ("b", "y"), ("c", "y"), ("a", "y")]
    assert len(order) == 12
    assert sorted(order) == sorted(2 * [(m, p) for m in "abc" for p in "xy"])


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
    assert figures["prediction_error"]["median"] == pytest.approx(0.1)
    assert figures["decide_us"]["p50"] == pytest.approx(20)
    assert figures["agreement_lossy"]["checked"] == 0


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

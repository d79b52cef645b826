import json
import math

import pytest

from isthmus.errors import SiteModelError
from isthmus.estimation.regression import LayerRegression, LinearModel
from isthmus.estimation.site_model import Loading, SiteModel
from isthmus.estimation.units import Work
from isthmus.profiling.site_model_file import PRESETS, load_site_model, save_site_model

MODEL = SiteModel(
    "a device",
    LayerRegression(
        "work",
        {"Conv": LinearModel((1e-5, 4e-12, 0.0, 1e-10), 0.1, 30)},
        LinearModel((2e-5, 5e-12, 0.0, 0.0), 0.4, 50),
    ),
    overhead_s=1e-5,
    scale_ratio=1.02,
    spread_ratio=0.09,
    errors={"network_median_ratio": 0.05},
    loading=Loading(1e-3, 1e-9),
    largest_input_px=640,
    limits=("only here",),
    record={"date": "2026-11-21", "networks": ["a", "b", "c"]},
)


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    save_site_model(MODEL, tmp_path / "device.json")
    assert load_site_model(tmp_path / "device.json") == MODEL
    assert "s_per_flop" in (tmp_path / "device.json").read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_their_source_and_limits(name):
    model = load_site_model(name)
    assert "Edgent" in model.record["source"]
    assert model.largest_input_px == 32
    assert not model.is_fused
    assert any("elements" in limit for limit in model.limits)


@pytest.mark.parametrize(
    ("preset", "kind", "inputs", "outputs", "milliseconds"),
    [  # Edgent, Table 2, by hand
        ("desktop-2018", "Conv", 96, 6400, 6.03e-5 * 96 + 1.24e-4 * 6400 + 0.189),
        ("raspberry-pi-3b", "Conv", 3, 800, 6.13e-3 * 3 + 2.67e-2 * 800 - 9.909),
        ("raspberry-pi-3b", "Conv", 3, 300, 0.0),  # the line is below zero
        ("raspberry-pi-3b", "Relu", 1000, 0, 1.5e-5 * 1000 + 0.488),
        ("raspberry-pi-3b", "MaxPool", 1000, 250, 1.33e-4 * 1000 + 3.31e-5 * 250 + 1.657),
        ("raspberry-pi-3b", "Gemm", 1000, 10, 9.18e-4 * 1000 + 3.99e-3 * 10 + 1.169),
        ("desktop-2018", "Gemm", 1000, 10, 1.07e-4 * 1000 - 1.83e-4 * 10 + 0.164),
    ],
)
def test_presets_are_the_published_lines(preset, kind, inputs, outputs, milliseconds):
    work = Work(kind, 1.0, 1.0, 1.0, float(inputs), float(outputs))
    predicted_s = load_site_model(preset).regression.predicted_s(work)
    assert predicted_s == pytest.approx(milliseconds * 1e-3, rel=1e-9, abs=1e-12)


def test_loading_is_a_part_of_the_presets():
    loading = load_site_model("raspberry-pi-3b").loading
    assert loading.constant_s == pytest.approx(0.842136)
    assert loading.s_per_byte == pytest.approx(4.49e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"features": "magic"},
        {"overhead_s": -1.0},
        {"pooled": {}},
        {"kinds": {"Conv": {"constant_s": "much"}}},
        {"kinds": []},
        {"scale_ratio": True},
        {"scale_ratio": 10**400},
        {"largest_input_px": math.inf},
    ],
)
def test_damaged_models_are_refused_by_name(tmp_path, changes):
    path = tmp_path / "device.json"
    save_site_model(MODEL, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(SiteModelError, match=r"device.json is no site model of schema 1"):
        load_site_model(path)


def test_what_is_missing_is_told_with_the_presets(tmp_path):
    with pytest.raises(SiteModelError, match="raspberry-pi-3b"):
        load_site_model("raspberry-pi-9")
    with pytest.raises(SiteModelError, match="cannot be read"):
        load_site_model(tmp_path)
    with pytest.raises(SiteModelError, match="cannot be written"):
        save_site_model(MODEL, tmp_path / "no" / "folder.json")

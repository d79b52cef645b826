import dataclasses

import numpy as np
import pytest

from isthmus.estimation.regression import FEATURES, LayerRegression, LinearModel, fit_layers
from isthmus.estimation.site_model import Loading, MeasuredNetwork, SiteModel, fit_site_model
from isthmus.estimation.units import Work, fused_units, paper_kind, work_of
from isthmus.types.graph import Layer, ModelGraph, TensorSpec


def conv(name, source, target, flops=1000, **window):
    window = {"kernel": (3, 3), "strides": (1, 1), **window}
    return Layer(name, "Conv", (source,), (target,), flops, 400, **window)


@pytest.fixture
def residual():
    """conv-bn-relu, then a branch: conv, added to what it read, relu; then a pooling."""
    layers = (
        conv("c1", "x", "a", strides=(2, 2)),
        Layer("bn", "BatchNormalization", ("a",), ("b",), 10, 8),
        Layer("r1", "Relu", ("b",), ("c",), 5, 0),
        conv("c2", "c", "d", kernel=(1, 1)),
        Layer("add", "Add", ("d", "c"), ("e",), 5, 0),
        Layer("r2", "Relu", ("e",), ("f",), 5, 0),
        Layer("pool", "MaxPool", ("f",), ("y",), 20, 0, kernel=(2, 2), strides=(2, 2)),
    )
    shapes = {"x": (1, 3, 16, 16), "y": (1, 8, 4, 4)}
    tensors = {n: TensorSpec(n, "float32", shapes.get(n, (1, 8, 8, 8))) for n in "xabcdefy"}
    return ModelGraph("residual", "0" * 64, ("x",), ("y",), layers, tensors)


def test_what_follows_a_convolution_runs_with_it(residual):
    assert fused_units(residual, range(7)) == ((0, 1, 2), (3, 4, 5), (6,))


def test_a_part_and_a_tensor_read_twice_end_a_unit(residual):
    assert fused_units(residual, [0, 1]) == ((0, 1),)
    assert fused_units(residual, [2, 3]) == ((2,), (3,))
    assert fused_units(residual, [4, 5, 6]) == ((4,), (5,), (6,))
    told = dataclasses.replace(residual, outputs=("y", "a"))
    assert fused_units(told, [0, 1, 2])[0] == (0,)


def test_work_counts_what_crosses_the_units_border(residual):
    work = work_of(residual, (0, 1, 2))
    assert work.kind == "Conv"
    assert work.flops == 1015
    assert work.output_elements == 512
    assert work.moved_bytes == 4 * (768 + 512) + 408
    assert (work.inputs, work.outputs) == (3, 9 / 4 * 8)
    assert work_of(residual, (3, 4, 5)).kind == "Conv.pointwise"
    assert work_of(residual, (3, 4, 5)).moved_bytes == 4 * (512 + 512) + 400
    pool = work_of(residual, (6,))
    assert (pool.inputs, pool.outputs, paper_kind(pool)) == (512, 128, "pooling")


def test_depthwise_convolutions_are_a_kind_of_their_own(residual):
    layers = (*residual.layers[:3], conv("c2", "c", "d", groups=8), *residual.layers[4:])
    assert work_of(dataclasses.replace(residual, layers=layers), (3,)).kind == "Conv.depthwise"


def random_work(rng, kind):
    amounts = rng.uniform(1, 10, 5) * [1e6, 1e5, 1e4, 10, 100]
    return Work(kind, *amounts.tolist())


TRUE = {"Conv": (1e-5, 5e-12, 1e-11, 0.0), "Relu": (2e-6, 0.0, 1e-10, 1e-9)}


def true_s(work):
    return float(np.dot(TRUE[work.kind], FEATURES["work"](work)))


def networks(count=6, seed=1, distort=1.0):
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        units = tuple(random_work(rng, kind) for kind in ("Conv", "Relu") * 6)
        seconds = tuple(true_s(unit) for unit in units)
        own = distort if index == 0 else 1.0
        found.append(
            MeasuredNetwork(f"n{index}", units, seconds, own * (2e-5 + 1.1 * sum(seconds)), units)
        )
    return found


def test_linear_times_are_found_and_held_out_networks_predicted():
    model = fit_site_model("here", networks(), record={"date": "2026-11-21"})
    assert model.regression.models.keys() == {"Conv", "Relu"}
    unseen = random_work(np.random.default_rng(9), "Conv")
    assert model.regression.predicted_s(unseen) == pytest.approx(true_s(unseen), rel=1e-6)
    assert model.scale_ratio == pytest.approx(1.1, rel=1e-3)
    assert model.errors["network_p95_ratio"] < 1e-3
    assert model.spread_ratio < 1e-3
    assert model.record == {"date": "2026-11-21", "networks": [f"n{i}" for i in range(6)]}


def test_the_error_is_that_of_networks_left_out():
    odd = fit_site_model("here", networks(distort=2.0))
    assert 0.2 < odd.spread_ratio < 0.5
    assert odd.errors["network_p95_ratio"] > 0.3
    with pytest.raises(ValueError, match="at least 3"):
        fit_site_model("here", networks(2))


def test_a_few_units_measured_much_too_short_do_not_pull_the_others_down():
    rng = np.random.default_rng(2)
    work = [random_work(rng, "Conv") for _ in range(60)]
    seconds = [true_s(unit) for unit in work]
    seconds[:3] = [s / 40 for s in seconds[:3]]
    fitted = fit_layers(work, seconds)
    assert fitted.predicted_s(work[30]) == pytest.approx(seconds[30], rel=0.2)


def test_rare_kinds_are_predicted_by_the_pooled_model_and_what_did_not_run_is_left_out():
    rng = np.random.default_rng(3)
    work = [random_work(rng, "Conv") for _ in range(8)] + [random_work(rng, "Relu")]
    seconds = [true_s(unit) for unit in work]
    fitted = fit_layers(work, seconds)
    assert fitted.models.keys() == {"Conv"}
    assert fitted.model_of(work[-1]) is fitted.pooled
    with_rest = fit_layers([*work, work[0]], [*seconds, 0.0])
    assert with_rest.models["Conv"].rows == 8


def flat_model(**changes):
    constant = LinearModel((1e-3, 0.0, 0.0))
    line = LayerRegression("papers", {"convolution": LinearModel((-1.0, 0.0, 0.0))}, constant)
    return dataclasses.replace(SiteModel("flat", line, is_fused=False), **changes)


def test_parts_add_up_units_overhead_loading_and_spread(residual):
    model = flat_model(overhead_s=0.5, scale_ratio=2.0, spread_ratio=0.1, loading=Loading(3, 0.01))
    assert model.part(residual, [1, 2]).seconds == pytest.approx(0.504)
    assert model.part(residual, [1, 2]).sd_s == pytest.approx(0.0504)
    assert model.part(residual, [1, 2], is_loaded=False).seconds == pytest.approx(3.504 + 0.08)
    assert model.part(residual, []).seconds == 0


def test_published_lines_below_zero_are_clamped(residual):
    assert flat_model().part(residual, [0]).seconds == 0
    assert flat_model().part(residual, [0, 1]).seconds == pytest.approx(1e-3)


def test_it_warns_by_name_beyond_its_limits(residual):
    assert not [w for w in flat_model(largest_input_px=16).warnings(residual) if "image size" in w]
    (said, _) = flat_model(largest_input_px=8).warnings(residual)
    assert "residual takes 16" in said
    (unknown,) = flat_model().warnings(residual)
    assert "Add, BatchNormalization, MaxPool, Relu" in unknown

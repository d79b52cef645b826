"""The latency study on made-up times: predictions, their errors, and what is kept."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from isthmus.cli import main as cli
from isthmus.errors import LabError
from isthmus.estimation.units import work_of
from isthmus.lab.studies import latency, network_files
from isthmus.lab.studies.latency_gap import DEVICE_SLOWDOWN, measured_gap
from isthmus.lab.studies.latency_measure import chosen_cuts, kept_times, spread_out
from isthmus.lab.studies.latency_process import (
    Effort,
    head_path,
    measured_apart,
    tail_path,
    whole_path,
)
from isthmus.lab.studies.latency_record import LatencyStudy
from isthmus.lab.studies.latency_requests import Asked, request_record
from isthmus.lab.studies.latency_scores import error_ratios, layer_rows, predictions, site_models
from isthmus.lab.studies.latency_times import NetworkTimes, PartTimes
from isthmus.lab.studies.network_files import NetworkFile
from isthmus.loading.onnx_file import load_graph
from isthmus.loading.split import split_model
from isthmus.profiling.layers import FusedUnit
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

LAYERS = 9
CUT_S = 0.0001  # what calling one more session costs
IDLE_S, IDLE_RATIO = 0.0003, 1.1


def chain(name, seed):
    """Return a chain of convolutions whose work differs."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 40, LAYERS + 1)
    tensors = {
        f"t{i}": TensorSpec(f"t{i}", "float32", (1, int(s), 8, 8)) for i, s in enumerate(sizes)
    }
    layers = tuple(
        Layer(
            f"l{i}", "Conv", (f"t{i}",), (f"t{i + 1}",), int(rng.integers(10**5, 10**7)), 100,
            kernel=(3, 3), strides=(1, 1),
        )
        for i in range(LAYERS)
    )  # fmt: skip
    return ModelGraph(name, f"{seed:064x}", ("t0",), (f"t{LAYERS}",), layers, tensors)


def layer_s(graph):
    """Return what each layer really takes: linear in its operations."""
    return np.array([1e-5 + layer.flops * 1e-9 for layer in graph.layers])


def times_of(graph, *, profiled=1.0, second=1.0):
    """Return times of every cut: layers and a call; the profiler sees them times ``profiled``."""
    true_s = layer_s(graph)
    count = LAYERS - 1
    heads = tuple(float(true_s[: i + 1].sum()) + CUT_S for i in range(count))
    tails = tuple(float(true_s[i + 1 :].sum()) + CUT_S for i in range(count))
    busy = PartTimes(float(true_s.sum()) + CUT_S, heads, tails, 20)
    idle = PartTimes(*(with_gap(x) for x in (busy.whole_s, heads, tails)), 3)
    seen = {"busy": busy, "idle": idle}
    units = tuple(FusedUnit((i,), float(x) * profiled) for i, x in enumerate(true_s))
    return NetworkTimes(
        name=graph.name,
        graph_sha256=graph.sha256,
        cuts=tuple((f"t{i + 1}",) for i in range(count)),
        is_every_cut_vertex=True,
        candidates=(1, 4),
        scored=tuple(range(0, count - 1)),
        units=units,
        network_s=float(true_s.sum()) + CUT_S,
        first=seen,
        second={cadence: scaled(found, second) for cadence, found in seen.items()},
        made={"date": "2026-11-21"},
    )


def with_gap(seconds):
    if isinstance(seconds, tuple):
        return tuple(map(with_gap, seconds))
    return IDLE_S + IDLE_RATIO * seconds


def scaled(times, ratio):
    heads_s, tails_s = (tuple(ratio * x for x in found) for found in (times.heads_s, times.tails_s))
    return PartTimes(times.whole_s * ratio, heads_s, tails_s, times.runs)


@pytest.fixture
def network():
    graph = chain("one", 1)
    return graph, times_of(graph)


def medians(found):
    return {name: one["median"] for name, one in error_ratios(found).items()}


def test_cuts_that_are_predicted_are_not_those_that_are_fitted(network):
    graph, times = network
    assert times.fitted == (0, 2, 4, 6)
    assert times.held_out == (1, 3, 5)
    found = predictions(graph, times, None)
    assert {one.cut for one in found if one.is_scored} == {1, 3, 5}
    assert {one.cut for one in found} == {1, 3, 5, 7}


def test_segments_are_right_where_parts_cost_a_call_more_and_the_profiler_is_wrong(network):
    graph, _ = network
    times = times_of(graph, profiled=1.3)
    busy = [one for one in predictions(graph, times, None) if one.cadence == "busy"]
    errors = medians(busy)
    assert errors["segments"] == pytest.approx(0, abs=1e-6)
    assert errors["sum_of_layers"] > 0.2
    assert errors["noise_floor"] == 0


def test_what_is_observed_is_the_second_process(network):
    graph, _ = network
    found = predictions(graph, times_of(graph, second=1.25), None)
    busy = medians(one for one in found if one.cadence == "busy")
    assert busy["noise_floor"] == pytest.approx(0.2)
    assert busy["segments"] == pytest.approx(0.2)


def test_the_cadence_is_fitted_to_the_fitted_cuts(network):
    graph, times = network
    idle = medians(one for one in predictions(graph, times, None) if one.cadence == "idle")
    assert idle["segments_at_cadence"] == pytest.approx(0, abs=1e-6)
    assert idle["segments"] > 0.1
    spoilt = list(times.first["idle"].heads_s)
    for cut in times.held_out:
        spoilt[cut] *= 9
    first = {**times.first, "idle": replace(times.first["idle"], heads_s=tuple(spoilt))}
    again = predictions(graph, replace(times, first=first), None)
    assert medians(one for one in again if one.cadence == "idle") == pytest.approx(
        {**idle, "noise_floor": 4.0}, abs=4.0
    )
    assert medians(one for one in again if one.cadence == "idle")[
        "segments_at_cadence"
    ] == pytest.approx(0, abs=1e-6)


def test_a_network_is_predicted_by_models_that_have_not_seen_it():
    networks = {}
    for seed in range(1, 6):
        graph = chain(f"n{seed}", seed)
        networks[graph.name] = (graph, times_of(graph))
    models = site_models(networks)
    for name, (graph, times) in networks.items():
        own, papers = models[name]
        assert name not in own.record["networks"]
        found = predictions(graph, times, (own, papers))
        errors = medians(one for one in found if one.cadence == "busy")
        assert errors["regression"] < 0.06
        assert errors["regression_papers"] > errors["regression"]
    assert site_models(dict(list(networks.items())[:3])) == {}


def test_rows_for_regressors_are_the_units_of_one_kind(network):
    graph, times = network
    rows, seconds, groups = layer_rows({"one": (graph, times)}, "Conv")
    assert len(rows) == LAYERS
    assert set(groups) == {"one"}
    work = work_of(graph, (0,))
    assert rows[0] == (work.flops, work.moved_bytes, work.output_elements)
    assert seconds[0] == times.units[0].seconds
    assert layer_rows({"one": (graph, times)}, "Gemm") == ([], [], [])


def test_nothing_is_lost_where_both_measurements_agree_and_all_cuts_are_candidates(network):
    graph, times = network
    gap = measured_gap(graph, replace(times, candidates=tuple(range(len(times.cuts)))))
    for way in ("candidates_best", "candidates", "noise_floor"):
        assert gap["loss_ratio"][way] == {"max": 0, "p95": 0, "mean": 0}
    assert gap["cuts"] == gap["candidates"] == LAYERS - 1


def test_the_loss_of_few_candidates_is_that_of_the_best_cut_which_is_not_one(network):
    graph, times = network
    tensors = {name: replace(spec, shape=(1, 10**4, 8, 8)) for name, spec in graph.tensors.items()}
    tensors["t4"] = replace(tensors["t4"], shape=(1, 1, 1, 1))  # cut 3 alone sends little
    graph = replace(graph, tensors=tensors)
    gap = measured_gap(graph, replace(times, candidates=(0,)))["loss_ratio"]
    assert gap["noise_floor"]["max"] == 0
    assert gap["candidates"]["max"] == gap["candidates_best"]["max"]
    # On the slowest links all but it stay on the device; with the fastest server this is the loss.
    busy = times.second["busy"]
    cut_s = DEVICE_SLOWDOWN * busy.heads_s[3] + 0.1 * busy.tails_s[3]
    assert gap["candidates"]["max"] > 0.8 * (DEVICE_SLOWDOWN * busy.whole_s / cut_s - 1)
    assert measured_gap(graph, replace(times, candidates=(3,)))["loss_ratio"]["candidates"][
        "max"
    ] == pytest.approx(0, abs=1e-9)


def asked(predicted_s, observed_s, *, turn=1, family="file", variant="one"):
    return Asked(8.0, turn, variant, family, "one " + family, "cat.jpg", predicted_s, observed_s)


def test_requests_of_the_first_round_count_apart():
    record = request_record(
        [asked(0.1, 0.2, turn=0), asked(0.1, 0.1), asked(0.09, 0.1, family="local")]
    )
    assert record["first_round"]["median"] == pytest.approx(0.5)
    assert record["overall"]["count"] == 2
    assert record["overall"]["median"] == pytest.approx(0.05)
    assert record["families"]["local"]["median_signed"] == pytest.approx(-0.1)


def test_the_record_has_the_keys_that_were_agreed():
    networks = {}
    for seed in range(1, 6):
        graph = chain(f"n{seed}", seed)
        networks[graph.name] = (graph, times_of(graph))
    study = LatencyStudy(
        networks,
        {"emulated": [asked(0.09, 0.1, variant="n1")]},
        transfer={"bytes_over_rate": {"median": 0.1, "p95": 0.2}, "transfers": []},
        link={"overall": {"isthmus": {"median": 0.1, "p95": 0.2, "interval_coverage": 0.9}}},
        left_out={"vgg": "too large"},
    )
    record = json.loads(json.dumps(study.record()))
    assert record["networks"].keys() == networks.keys()
    methods = {"sum_of_layers", "regression", "segments", "noise_floor"}
    for one in (*record["networks"].values(), record["overall"]):
        assert one["error_ratio"].keys() >= methods
        assert all(one["error_ratio"][way].keys() >= {"median", "p95"} for way in methods)
        assert one["sequence"].keys() >= methods
    assert record["networks"]["n1"]["cuts"] == LAYERS - 1
    assert record["networks"]["n1"]["error_ratio"]["end_to_end"]["median"] == pytest.approx(0.1)
    assert record["overall"]["error_ratio"]["end_to_end"]["count"] == 1
    assert record["measured_gap"]["networks"] == 5
    assert record["transfer"] == {"bytes_over_rate": {"median": 0.1, "p95": 0.2}}
    assert record["link"]["isthmus"]["interval_coverage"] == 0.9
    assert record["left_out"] == {"vgg": "too large"}


def test_times_are_kept_for_the_same_network_only(network, tmp_path):
    graph, times = network
    path = tmp_path / "one.json"
    path.write_text(json.dumps(times.to_json()))
    assert kept_times(path, graph.sha256) == times
    assert kept_times(path, "0" * 64) is None
    assert kept_times(tmp_path / "two.json", graph.sha256) is None
    path.write_text(json.dumps({**times.to_json(), "schema": 0}))
    assert kept_times(path, graph.sha256) is None


@pytest.mark.parametrize("count", [1, 5, 12, 30])
@pytest.mark.parametrize("wanted", [(), (3,), (0, 1, 2, 3, 4)])
def test_places_are_spread_out_with_both_ends(count, wanted):
    wanted = tuple(place for place in wanted if place < count)
    for most in (3, 5, 9):
        found = spread_out(wanted, count, most)
        assert len(found) == len(set(found)) == min(count, most)
        assert found[0] == 0
        assert found[-1] == count - 1
        assert list(found) == sorted(found)
        if len({0, count - 1, *wanted}) <= most:
            assert set(wanted) <= set(found)


def test_parts_run_in_another_process(small_network, small_model_path, tmp_path):
    model, graph = small_network(), load_graph(small_model_path)
    cuts = chosen_cuts(graph)[0][:2]
    onnx.save(model, whole_path(tmp_path))
    for number, cut in enumerate(cuts):
        split = split_model(model, graph, cut)
        onnx.save(split.head, head_path(tmp_path, number))
        onnx.save(split.tail, tail_path(tmp_path, number))
    busy, idle = measured_apart(
        tmp_path, cuts=2, idle=[], effort=Effort(0.0, 0.0), threads=1, seed=0
    )
    assert all(seconds > 0 for seconds in (*busy.heads_s, *busy.tails_s, busy.whole_s))
    assert busy.runs >= 2
    assert idle.heads_s == (None, None)
    assert idle.whole_s > 0
    head_path(tmp_path, 1).unlink()
    with pytest.raises(LabError, match="no such file"):
        measured_apart(tmp_path, cuts=2, idle=[], effort=Effort(0.0, 0.0), threads=1, seed=0)


def test_the_command_measures_what_is_not_kept_and_prints_tables(tmp_path, monkeypatch, capsys):
    graphs = {f"n{seed}": chain(f"n{seed}", seed) for seed in range(1, 6)}
    files = {name: NetworkFile(name, tmp_path / name) for name in graphs}
    measured = []

    def measure(network, *, effort):
        measured.append(network.name)
        return times_of(graphs[network.name])

    def run(*arguments):
        own = ["isthmus", "study", "latency", "--folder", str(tmp_path / "kept"), *arguments]
        monkeypatch.setattr(sys, "argv", own)
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code

    monkeypatch.setattr(NetworkFile, "graph", lambda self: graphs[self.name])
    monkeypatch.setattr(latency, "measure", measure)
    monkeypatch.setattr(network_files, "available_networks", lambda: (dict(files), {}))
    target = tmp_path / "out.json"
    compute = ("--part", "compute")
    assert run(*compute, "--networks", "n[1-4]", "--json", str(target)) == 0
    assert measured == ["n1", "n2", "n3", "n4"]
    assert json.loads(target.read_text())["overall"]["error_ratio"]["segments"]["median"] < 1e-6
    assert run(*compute) == 0
    assert measured == ["n1", "n2", "n3", "n4", "n5"]
    printed = capsys.readouterr().out
    assert "Heads and tails of cuts held out" in printed
    assert "Measured loss" in printed
    assert run("--part", "nonsense") == 2
    assert measured == ["n1", "n2", "n3", "n4", "n5"]

"""The QDMP study on small made-up networks: its figures hang together, whatever the times are."""

import importlib.util
import json
import sys

import numpy as np
import pytest

from isthmus.cli import main as cli
from isthmus.errors import ModelError
from isthmus.lab.studies import qdmp, qdmp_solvers
from isthmus.lab.studies.qdmp_solvers import EXACT, WAYS, installed_ways
from isthmus.lab.studies.synthetic_graphs import cell_chain
from isthmus.planning.cheapest_plan import PlanCosts
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

CONDITIONS = [(8 / bits_per_s, slowdown) for bits_per_s in (1e5, 1e7, 1e9) for slowdown in (0.2, 5)]
TINY = {
    "one-back": lambda: cell_chain(36, 1, reads_two=False),
    "two-back": lambda: cell_chain(36, 2, reads_two=True),
}


@pytest.fixture(scope="module")
def study():
    return qdmp.study_qdmp(TINY, seconds=1.0, decisions=200)


def costs_of(seed, *, reads_two):
    """Return random costs, for which every kind of plan is the best one under some condition."""
    graph = cell_chain(36, seed, reads_two=reads_two)
    rng = np.random.default_rng(seed)
    count = len(graph.layers)
    sent = {name: float(10 ** rng.uniform(2, 6)) for name in graph.consumers}
    device_s, server_s = rng.uniform(0.001, 0.1, count), rng.uniform(0.0001, 0.05, count)
    return PlanCosts(graph, device_s, server_s, sent)


def test_the_record_has_the_keys_that_were_agreed(study):
    record = json.loads(json.dumps(study.record()))
    assert {"graphs", "table_decide_us", "break_even_decisions"} <= record.keys()
    assert record["graphs"].keys() == TINY.keys()
    for one in record["graphs"].values():
        assert one.keys() >= {
            "layers", "cut_vertices", "frontier", "candidates", "frontier_build_ms", "solve_ms",
            "max_gap_ratio",
        }  # fmt: skip
        assert one["solve_ms"].keys() == installed_ways()[0].keys() - {"chain_scan"}
        assert all(value > 0 for value in one["solve_ms"].values())
    table = record["table_decide_us"]
    assert table.keys() == {"rows", "columns", "p50", "p99", "batched_per_decision"}
    assert table["rows"] >= 200
    assert 0 < table["p50"] <= table["p99"]


def test_gaps_are_not_negative_and_those_of_exact_methods_are_none(study):
    for one in study.graphs.values():
        gaps = one.max_gap_ratio
        assert all(gap >= 0 for gap in gaps.values())
        assert gaps["exact"] == gaps["min_cut"] == gaps["frontier"] == 0
        assert gaps["two_stage_published"] <= gaps["vertex_scan"]
        assert gaps["vertex_scan"] <= min(gaps["device_only"], gaps["edge_only"])
        assert gaps["device_only"] > 0
        assert one.conditions >= 9


@pytest.mark.parametrize("reads_two", [False, True])
@pytest.mark.parametrize("way", ["networkx", "frontier_prepared", *EXACT])
def test_each_exact_way_finds_the_same_cost(way, reads_two):
    if way not in installed_ways()[0]:
        pytest.skip(installed_ways()[1][way])
    costs = costs_of(3, reads_two=reads_two)
    ask, other = WAYS[way](costs), WAYS["two_stage"](costs)
    for condition in CONDITIONS:
        assert ask(condition) == pytest.approx(other(condition), rel=1e-7)


def test_both_scans_of_cut_vertices_find_what_trying_them_all_finds():
    costs = costs_of(4, reads_two=False)
    graph = costs.graph
    prefixes = [frozenset(range(i)) for i in range(len(graph.layers) + 1)]
    vertices = {-1, *qdmp.cut_vertices(graph), len(graph.layers) - 1}
    plans = [costs.of(device) for device in prefixes if len(device) - 1 in vertices]
    assert len(plans) > 4
    for condition in CONDITIONS:
        best_s = min(d + sent * condition[0] + s * condition[1] for d, sent, s in plans)
        for way in ("vertex_scan", "vertex_scan_prepared"):
            assert WAYS[way](costs)(condition) == pytest.approx(best_s, rel=1e-12)


def test_the_published_method_misses_what_the_others_find():
    """The best cut is inside a segment that is not beside the best cut vertex."""
    layers = [("a", "x"), ("b", "a"), ("c", "b"), ("d", "c"), ("e", "c"), ("f", "d e")]
    sizes = {"x": 10.0, "a": 4.0, "b": 9.0, "c": 9.0, "d": 1.0, "e": 1.0, "f": 1.0}
    nodes = tuple(Layer(n, "Op", tuple(r.split()), (n,), 1, 0) for n, r in layers)
    tensors = {name: TensorSpec(name, "float32", (1,)) for name in sizes}
    graph = ModelGraph("g", "0" * 64, ("x",), ("f",), nodes, tensors)
    device_s = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 9.0])
    costs = PlanCosts(graph, device_s, np.full(6, 0.01), sizes)
    exact, published = (
        WAYS[way](costs)((1.0, 1.0)) for way in ("two_stage", "two_stage_published")
    )
    assert exact == pytest.approx(2.51)
    assert published == pytest.approx(4.15)


def test_a_scan_of_chains_is_timed_on_chains():
    nodes = tuple(Layer(f"l{i}", "Op", (f"t{i}",), (f"t{i + 1}",), 10**6, 0) for i in range(4))
    tensors = {f"t{i}": TensorSpec(f"t{i}", "float32", (100,)) for i in range(5)}
    graph = ModelGraph("chain", "0" * 64, ("t0",), ("t4",), nodes, tensors)
    found = qdmp.study_graph(graph, installed_ways()[0], seconds=0.1)
    assert found.solve_ms["chain_scan"] > 0
    assert found.cut_vertices == found.layers == 4


def test_what_cannot_be_had_is_left_out_by_name(monkeypatch):
    def broken():
        raise ModelError("no such file")

    found = importlib.util.find_spec
    monkeypatch.setattr(
        qdmp_solvers.importlib.util,
        "find_spec",
        lambda name: None if name in ("networkx", "ortools") else found(name),
    )
    study = qdmp.study_qdmp({"broken": broken}, seconds=0.1, decisions=10)
    assert study.graphs == {}
    assert study.left_out == {
        "broken": "no such file",
        "networkx": "networkx is not installed",
        "ortools_prepared": "ortools is not installed",
    }


def test_networks_that_are_not_in_the_cache_are_left_out_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    graphs, left_out = qdmp.available_graphs()
    assert {"light_squeezenet", "cells-two-back-5000"} <= graphs.keys()
    assert {"text-detector", "layout-detector"} <= left_out.keys()
    assert len(graphs["cells-two-back-1000"]().layers) == pytest.approx(1000, rel=0.02)


def test_the_command_prints_the_figures_and_what_is_left_out(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(qdmp, "available_graphs", lambda: (TINY, {"two-other": "not here"}))
    file = tmp_path / "study.json"
    arguments = ["study", "qdmp", "--graphs", "two-*", "--seconds", "0.5", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["isthmus", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert "two-back" in printed
    assert "Estimated layer costs" in printed
    assert "two-other: not here" in printed
    assert json.loads(file.read_text())["graphs"].keys() == {"two-back"}

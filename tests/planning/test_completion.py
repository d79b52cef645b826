from dataclasses import replace

import numpy as np
import pytest

from isthmus.planning.candidates import candidates, codec_ways, estimated_device_s
from isthmus.planning.completion import missing_cuts
from isthmus.planning.frontier import frontier
from isthmus.types.cut import device_layers
from isthmus.types.graph import Layer, ModelGraph, TensorSpec


def chain(flops, sizes):
    """Return a chain of layers; ``sizes`` are those of its input and of every output."""
    names = ["x", *(f"t{i}" for i in range(len(flops)))]
    layers = tuple(
        Layer(f"l{i}", "Conv", (names[i],), (names[i + 1],), work, 1000)
        for i, work in enumerate(flops)
    )
    tensors = {n: TensorSpec(n, "float32", (s,)) for n, s in zip(names, sizes, strict=True)}
    return ModelGraph("net", "0" * 64, ("x",), (names[-1],), layers, tensors)


M = 10**6
NET = chain(
    [200 * M, 300 * M, 400 * M, 300 * M, 100 * M, M],
    [150_000, 60_000, 30_000, 15_000, 8_000, 4_000, 1_000],
)


def halves(graph):
    device_s = estimated_device_s(graph)
    return device_s, device_s / 10


def test_nothing_is_missing_where_the_frontier_is_there():
    known = candidates(NET, limit=20).cuts
    found = missing_cuts(NET, *halves(NET), known, most=20)
    assert found.cuts == ()
    assert found.gap_ratio == pytest.approx(0, abs=1e-9)


def test_what_is_missing_is_found_and_closes_the_gap():
    found = missing_cuts(NET, *halves(NET), [("t2",)], most=20)
    assert found.cuts
    assert ("t2",) not in found.cuts
    assert found.gap_ratio > 0.03 >= found.left_ratio
    again = missing_cuts(NET, *halves(NET), [("t2",), *found.cuts], most=20)
    assert again.cuts == ()


def test_the_gap_that_is_left_holds_under_sampled_conditions():
    device_s, server_s = halves(NET)
    found = missing_cuts(NET, device_s, server_s, [("t2",)], most=20)
    kept = [device_layers(NET, cut) for cut in (("t2",), *found.cuts)]
    kept += [frozenset(), frozenset(range(6))]
    rng = np.random.default_rng(0)
    weights = np.exp(rng.uniform(np.log([1, 1e-8, 0.2]), np.log([1.0001, 1e-4, 5]), (2000, 3)))
    for way in codec_ways(NET, device_s, server_s):
        all_costs = np.array([plan.costs for plan in frontier(way).plans])
        costs = np.array([way.of(device) for device in kept])
        costs = costs[np.isfinite(costs).all(axis=1)]
        loss = (weights @ costs.T).min(axis=1) / (weights @ all_costs.T).min(axis=1) - 1
        assert loss.max() <= found.left_ratio + 1e-9


def test_measured_times_that_differ_from_the_estimates_call_for_other_cuts():
    device_s, server_s = halves(NET)
    known = missing_cuts(NET, device_s, server_s, [], most=20).cuts
    assert ("t2",) not in known
    slow_fourth = device_s.copy()
    slow_fourth[3] *= 40  # so the device had better stop before it
    found = missing_cuts(NET, slow_fourth, server_s, known, most=20)
    assert ("t2",) in found.cuts
    assert found.left_ratio <= 0.03


def test_no_more_are_added_than_wanted():
    found = missing_cuts(NET, *halves(NET), [], most=1)
    assert len(found.cuts) == 1
    assert 0.03 < found.left_ratio < found.gap_ratio
    assert missing_cuts(NET, *halves(NET), [], most=0).cuts == ()


@pytest.mark.parametrize("known", [[], [("t2",)], [("t0",), ("t4",)]])
def test_gaps_are_those_without_and_with_the_cuts(known):
    device_s, server_s = halves(NET)
    device_s = device_s * [1, 30, 1, 40, 1, 1]
    found = missing_cuts(NET, device_s, server_s, known, most=20)
    without = missing_cuts(NET, device_s, server_s, known, most=0)
    assert without.gap_ratio == without.left_ratio == found.gap_ratio
    all_of_them = [*known, *found.cuts]
    assert missing_cuts(NET, device_s, server_s, all_of_them, most=0).gap_ratio == found.left_ratio


def test_no_cut_is_added_at_an_output():
    assert ("t0",) in missing_cuts(NET, *halves(NET), [], most=20).cuts
    two_answers = replace(NET, outputs=("t0", *NET.outputs))
    assert ("t0",) not in missing_cuts(two_answers, *halves(NET), [], most=20).cuts


def test_layers_that_take_no_time_are_no_trouble():
    found = missing_cuts(NET, np.zeros(6), np.zeros(6), [], most=20)
    assert found.left_ratio <= 0.03

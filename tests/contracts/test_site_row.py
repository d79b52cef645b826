"""Sites in a row: nested cuts against trying all, on random graphs and in traps."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.planning.min_cut import min_cut
from isthmus.planning.partition import PartitionProblem
from isthmus.planning.site_row import Hop, RowProblem, row_brute_force, row_min_cut
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

FLOAT_RATIO = 1e-12
BOTH = [row_min_cut, row_brute_force]


def graph_of(inputs, layers, outputs=()):
    read = {name for _, names, _ in layers for name in names}
    made = [name for _, _, names in layers for name in names]
    unread = [name for name in made if name not in read]
    tensors = {name: TensorSpec(name, "float32", (1,)) for name in (*inputs, *made)}
    nodes = tuple(Layer(name, "Op", tuple(i), tuple(o), 1, 0) for name, i, o in layers)
    outputs = tuple(dict.fromkeys((*unread, *outputs)))
    return ModelGraph("g", "0" * 64, tuple(inputs), outputs, nodes, tensors)


def random_row(count, sites, seed):
    """Several inputs, outputs and readers, layers that read no data, dear and forbidden hops."""
    rng = np.random.default_rng(seed)
    tensors, layers = ["in0", "in1"], []
    for i in range(count):
        made = [f"t{i}{part}" for part in "ab"[: 1 + (rng.random() < 0.3)]]
        names = rng.choice(tensors[-5:], size=rng.integers(0 if rng.random() < 0.1 else 1, 4))
        layers.append((f"l{i}", names.tolist(), made))
        tensors += made
    graph = graph_of(["in0", "in1"], layers, rng.choice(tensors, size=1).tolist())
    decades = 6 if rng.random() < 0.5 else 1

    def seconds():
        exponent = rng.integers(1, decades + 1)
        return 0.0 if rng.random() < 0.1 else rng.uniform(1, 10) * 10.0**-exponent

    hops = tuple(
        Hop(
            {name: math.inf if rng.random() < 0.05 else seconds() / 3 for name in tensors},
            seconds() / 3,
            {name: seconds() / 3 for name in graph.outputs if rng.random() < 0.5},
        )
        for _ in range(sites - 1)
    )
    speeds = [10.0 ** -(level * rng.random()) for level in range(sites)]
    costs = tuple(np.array([seconds() * speed for _ in layers]) for speed in speeds)
    return RowProblem(graph, costs, hops)


def executable_cost_s(problem, found):
    """Return what a partition costs, by following each tensor, after checking its direction."""
    graph, levels = problem.graph, found.levels
    total, farthest = 0.0, dict.fromkeys(graph.tensors, 0)
    for layer, level, *costs in zip(graph.layers, levels, *problem.layer_s, strict=True):
        total += costs[level]
        for name in layer.inputs:
            made_at = levels[graph.producers[name]] if name in graph.producers else 0
            assert made_at <= level, "a tensor flows back"
            farthest[name] = max(farthest[name], level)
    for place, hop in enumerate(problem.hops):
        crossing = []
        for name, end in farthest.items():
            start = levels[graph.producers[name]] if name in graph.producers else 0
            if start <= place < end:
                crossing.append(name)
                total += hop.transfer_s[name]
            if name in hop.return_s and start > place:
                total += hop.return_s[name]
        assert found.tensors[place] == tuple(sorted(crossing))
        if any(level > place for level in levels):
            total += hop.message_s
    return total


@settings(max_examples=1500)
@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_nested_cuts_cost_what_trying_all_finds(count, sites, seed):
    problem = random_row(min(count, 9 - sites), sites, seed)
    exact, found = row_brute_force(problem), row_min_cut(problem)
    for one in (exact, found):
        assert one.cost_s == pytest.approx(executable_cost_s(problem, one), rel=FLOAT_RATIO)
    least = exact.cost_s * (1 - FLOAT_RATIO)
    assert least <= found.cost_s <= exact.cost_s * (1 + FLOAT_RATIO) + found.error_s
    assert found.error_s <= 1e-6 * found.cost_s


@pytest.mark.parametrize("seed", range(6))
def test_a_row_of_two_is_the_problem_of_two_sites(seed):
    row = random_row(60, 2, seed)
    (hop,) = row.hops
    two = PartitionProblem(row.graph, *row.layer_s, hop.transfer_s, hop.message_s, hop.return_s)
    found, expected = row_min_cut(row), min_cut(two)
    assert found.cost_s == pytest.approx(expected.cost_s, rel=1e-6)
    assert found.cost_s == pytest.approx(executable_cost_s(row, found), rel=FLOAT_RATIO)


@pytest.mark.parametrize("seed", range(6))
def test_an_edge_that_is_no_use_leaves_two_sites_and_both_hops(seed):
    row = random_row(40, 3, seed)
    device_s, edge_s, cloud_s = row.layer_s
    row = replace(row, layer_s=(device_s, edge_s + 1e4, cloud_s / 100))
    near, far = row.hops
    two = PartitionProblem(
        row.graph,
        device_s,
        cloud_s / 100,
        {name: value + far.transfer_s[name] for name, value in near.transfer_s.items()},
        near.message_s + far.message_s,
        {n: near.return_s.get(n, 0) + far.return_s.get(n, 0) for n in row.graph.outputs},
    )
    found = row_min_cut(row)
    assert found.cost_s == pytest.approx(min_cut(two).cost_s, rel=1e-6)
    assert 1 not in found.levels


def chain(count):
    return graph_of(
        ["x"], [(f"l{i}", [f"t{i - 1}" if i else "x"], [f"t{i}"]) for i in range(count)]
    )


def row_of(graph, *costs, hops):
    return RowProblem(graph, tuple(np.array(c, float) for c in costs), tuple(hops))


@pytest.mark.parametrize("solve", BOTH)
class TestTraps:
    def test_each_site_has_a_part(self, solve):
        hops = [Hop({"x": 9, "t0": 0.5, "t1": 9}), Hop({"x": 9, "t0": 9, "t1": 0.25})]
        found = solve(row_of(chain(3), [1, 9, 9], [9, 1, 9], [9, 9, 1], hops=hops))
        assert found.levels == (0, 1, 2)
        assert found.tensors == (("t0",), ("t1",))
        assert found.cost_s == 3.75

    def test_what_goes_to_the_cloud_passes_the_edge(self, solve):
        hops = [Hop({"x": 1, "t0": 2}), Hop({"x": 0.5, "t0": 4})]
        found = solve(row_of(chain(2), [9, 9], [9, 9], [0, 0], hops=hops))
        assert (found.levels, found.tensors, found.cost_s) == ((2, 2), (("x",), ("x",)), 1.5)

    def test_a_tensor_read_at_two_sites_pays_each_hop_once(self, solve):
        layers = [("a", ["x"], ["t"]), *((f"r{i}", ["t"], [f"o{i}"]) for i in range(4))]
        transfer = {"x": 9.0, "t": 1.0}
        problem = row_of(
            graph_of(["x"], layers), [0, 9, 9, 9, 9], [9, 0, 0, 9, 9], [9, 9, 9, 0, 0],
            hops=[Hop(transfer), Hop(transfer)],
        )  # fmt: skip
        found = solve(problem)
        assert (found.levels, found.cost_s) == ((0, 1, 1, 2, 2), 2.0)

    def test_messages_are_paid_once_for_each_hop_used(self, solve):
        transfer = {"x": 0.0, "t0": 0.0, "t1": 0.0}
        problem = row_of(chain(3), [4, 4, 4], [1, 1, 1], [0, 0, 0],
                         hops=[Hop(transfer, 2.0), Hop(transfer, 2.5)])  # fmt: skip
        assert (solve(problem).levels, solve(problem).cost_s) == ((2, 2, 2), 4.5)
        near, far = problem.hops
        problem = replace(problem, hops=(near, replace(far, message_s=3.5)))
        assert (solve(problem).levels, solve(problem).cost_s) == ((1, 1, 1), 5.0)
        problem = replace(problem, hops=(replace(near, message_s=9.5), far))
        assert (solve(problem).levels, solve(problem).cost_s) == ((0, 0, 0), 12.0)

    def test_the_way_back_is_paid_for_each_hop(self, solve):
        transfer = {"x": 0.0, "t0": 0.0}
        hops = [Hop(transfer, 0.0, {"t1": 1.0}), Hop(transfer, 0.0, {"t1": 2.0})]
        problem = row_of(chain(2), [4, 8], [2, 4], [1, 1], hops=hops)
        assert (solve(problem).levels, solve(problem).cost_s) == ((2, 2), 5.0)
        hops[1] = replace(hops[1], return_s={"t1": 4.5})
        problem = row_of(chain(2), [4, 8], [2, 4], [1, 1], hops=hops)
        assert (solve(problem).levels, solve(problem).cost_s) == ((1, 1), 7.0)

    def test_nothing_flows_back(self, solve):
        transfer = {"x": 9, "t0": 0.1, "t1": 0.1}
        problem = row_of(chain(3), [0, 10, 1], [9, 10, 10], [9, 1, 10],
                         hops=[Hop(transfer), Hop(transfer)])  # fmt: skip
        found = solve(problem)
        assert list(found.levels) == sorted(found.levels)
        assert found.cost_s == pytest.approx(11.0)

    def test_costs_beyond_32_bits_and_nothing_at_all(self, solve):
        free = Hop({"x": 0, "t0": 0})
        dear = [[5e9, 5e9], [6e9, 4e9], [6e9, 6e9]]
        found = solve(row_of(chain(2), *dear, hops=[free, free]))
        assert (found.levels, found.cost_s) == ((0, 1), 9e9)
        found = solve(row_of(chain(2), [0, 0], [0, 0], [0, 0], hops=[free, free]))
        assert (found.levels, found.cost_s) == ((0, 0), 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hops": ()}, "2 sites in a row and 0 hops"),
        ({"layer_s": (np.ones(2), np.ones(3))}, r"layer_s\[1\] has shape"),
        ({"layer_s": (np.ones(2), np.array([1, -1.0]))}, r"layer_s\[1\] must be finite"),
        ({"hops": (Hop({"x": 1}),)}, "hop 0 lacks 't0'"),
        ({"hops": (Hop({"x": 1, "t0": -1}),)}, "hop 0 must not be negative"),
        ({"hops": (Hop({"x": 1, "t0": 1}, math.inf),)}, "message_s and return_s of hop 0"),
        ({"hops": (Hop({"x": 1, "t0": 1}, 0, {"t0": 1}),)}, "'t0', which is no output"),
    ],
)
def test_impossible_rows_are_refused(change, message):
    good = {"layer_s": (np.ones(2), np.ones(2)), "hops": (Hop({"x": 1, "t0": 1}),)}
    RowProblem(chain(2), **good)
    with pytest.raises(ValueError, match=message):
        RowProblem(chain(2), **{**good, **change})


def test_brute_force_knows_its_limit():
    hop = Hop(dict.fromkeys(chain(13).tensors, 1.0))
    with pytest.raises(ValueError, match="13 layers at 3 sites are too many"):
        row_brute_force(row_of(chain(13), *[[1] * 13] * 3, hops=[hop, hop]))

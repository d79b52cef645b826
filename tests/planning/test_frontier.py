"""The frontier is the hull that brute force finds in exact arithmetic, on random graphs."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.planning.cheapest_plan import PlanCosts
from isthmus.planning.envelope import STATED_CONE, Cone, cost_s
from isthmus.planning.frontier import frontier
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

WHOLE = Cone(s_per_byte=(0.0, 64.0), server_slowdown=(0.0, 64.0))


def graph_of(inputs, layers, outputs):
    tensors = {
        name: TensorSpec(name, "float32", (1,))
        for name in (*inputs, *(made for _, names in layers for made in names))
    }
    nodes = tuple(
        Layer(f"l{i}", "Op", tuple(reads), tuple(makes), 1, 0)
        for i, (reads, makes) in enumerate(layers)
    )
    return ModelGraph("g", "0" * 64, tuple(inputs), tuple(outputs), nodes, tensors)


@st.composite
def graphs(draw, most_layers=9):
    """Several inputs and outputs, tensors read by several layers, layers that read nothing."""
    inputs = [f"in{i}" for i in range(draw(st.integers(1, 2)))]
    tensors, layers = list(inputs), []
    for i in range(draw(st.integers(1, most_layers))):
        least = 0 if draw(st.integers(0, 14)) == 0 else 1
        recent = tensors[-draw(st.integers(1, 4)) :]
        reads = draw(st.lists(st.sampled_from(recent), min_size=least, max_size=3))
        makes = [f"t{i}{part}" for part in "ab"[: draw(st.integers(1, 2))]]
        layers.append((reads, makes))
        tensors += makes
    read = {name for reads, _ in layers for name in reads}
    outputs = [makes[0] for _, makes in layers if read.isdisjoint(makes)]
    extra = draw(st.lists(st.sampled_from(tensors), max_size=1))
    return graph_of(inputs, layers, dict.fromkeys([*outputs, *extra]))


@st.composite
def blocks(draw):
    """Branches that join, several times: segments that compete with one another."""
    layers, last = [], "x"
    for i in range(draw(st.integers(1, 3))):
        layers.append(([last], [f"s{i}"]))
        branches = [f"b{i}{part}" for part in "abc"[: draw(st.integers(2, 3))]]
        layers += [([f"s{i}"], [name]) for name in branches]
        last = f"j{i}"
        layers.append((branches, [last]))
    return graph_of(["x"], layers, [last])


@st.composite
def whole_costs(draw):
    """Costs in small whole numbers: many plans tie, and all sums are exact."""
    graph = draw(st.one_of(graphs(), blocks()))
    most = draw(st.sampled_from([2, 12, 40]))
    number = st.integers(0, most)
    count = len(graph.layers)
    seconds = st.lists(number, min_size=count, max_size=count)
    sent = {
        name: math.inf if draw(st.integers(0, 19)) == 0 else draw(number) for name in graph.tensors
    }
    if draw(st.booleans()):  # between the cut vertices, tensors are small: cuts inside win
        sent |= {name: draw(st.integers(0, 9)) for name in sent if name.startswith("b")}
        sent |= {name: 20 + draw(number) for name in sent if not name.startswith("b")}
    encode = {name: draw(number) for name in graph.tensors if draw(st.integers(0, 3)) == 0}
    decode = {name: draw(number) for name in graph.tensors if draw(st.integers(0, 3)) == 0}
    device_s, server_s = (np.array(draw(seconds), float) for _ in range(2))
    return PlanCosts(graph, device_s, server_s, sent, encode, decode)


def all_plans(costs):
    """Return the cost vector of every executable plan, by another way than the code's."""
    graph = costs.graph
    needs = [
        {graph.producers[name] for name in layer.inputs if name in graph.producers}
        for layer in graph.layers
    ]
    closed = [frozenset()]
    for index, needed in enumerate(needs):
        closed += [device | {index} for device in closed if needed <= device]
    vectors = set()
    for device in closed:
        here = sum(costs.device_s[i] for i in device)
        there = sum(costs.server_s[i] for i in range(len(needs)) if i not in device)
        sent = {
            name
            for i, layer in enumerate(graph.layers)
            if i not in device
            for name in layer.inputs
            if name in graph.inputs or graph.producers[name] in device
        }
        bytes_ = sum(costs.sent_bytes[name] for name in sent)
        if not math.isinf(bytes_):
            here += sum(costs.encode_s.get(name, 0) for name in sent)
            there += sum(costs.decode_s.get(name, 0) for name in sent)
            vectors.add((int(here), int(bytes_), int(there)))
    return vectors


def hull_vertices(vectors, cone):
    """Return those that alone are cheapest in some open set of the cone, in exact arithmetic.

    The set of conditions where one is cheapest is cut out of the cone by one line for each other
    one; what is left has an inside if its corners enclose an area. One that is nowhere cheaper than
    another one has none, and cuts nothing off that the other one leaves.
    """
    vectors = {
        one
        for one in vectors
        if not any(
            other != one and all(x <= y for x, y in zip(other, one, strict=True))
            for other in vectors
        )
    }
    found = set()
    for one in vectors:
        cell = [(Fraction(x), Fraction(y)) for x, y in cone.corners]
        for other in vectors - {one}:
            d, b, s = (Fraction(x - y) for x, y in zip(one, other, strict=True))
            sides = [d + b * x + s * y for x, y in cell]
            left = []
            for i, at in enumerate(cell):
                j = (i + 1) % len(cell)
                if sides[i] <= 0:
                    left.append(at)
                if sides[i] * sides[j] < 0:
                    t = sides[i] / (sides[i] - sides[j])
                    left.append(tuple(p + t * (q - p) for p, q in zip(at, cell[j], strict=True)))
            cell = left
            if not cell:
                break
        twice_area = sum(
            cell[i][0] * cell[i - 1][1] - cell[i - 1][0] * cell[i][1] for i in range(len(cell))
        )
        if twice_area != 0:
            found.add(one)
    return found


@settings(max_examples=700)
@given(whole_costs(), st.sampled_from([WHOLE, STATED_CONE, Cone((0.5, 3.0), (0.25, 2.0))]))
def test_the_frontier_is_the_hull_of_all_plans(costs, cone):
    found = frontier(costs, cone)
    assert {plan.costs for plan in found.plans} == hull_vertices(all_plans(costs), cone)
    assert len({plan.costs for plan in found.plans}) == len(found.plans)
    assert found.gap_ratio <= 1e-6


@settings(max_examples=300)
@given(whole_costs())
def test_each_vertex_is_an_executable_plan_and_best_where_it_says(costs):
    found = frontier(costs, WHOLE)
    everything = all_plans(costs)
    for plan in found.plans:
        assert costs.of(plan.device_layers) == plan.costs
        for index in plan.device_layers:
            for name in costs.graph.layers[index].inputs:
                assert costs.graph.producers.get(name, index) in plan.device_layers
        rivals = [cost_s(other, plan.best_at) for other in everything if other != plan.costs]
        assert cost_s(plan.costs, plan.best_at) < min(rivals, default=math.inf)


def chain(sizes):
    layers = [([f"t{i}"], [f"t{i + 1}"]) for i in range(len(sizes) - 1)]
    return graph_of(["t0"], layers, [f"t{len(sizes) - 1}"])


def test_a_chain_by_hand():
    # The device needs 1 s a layer; 10 bytes at first, then 6, 5 and 1.
    graph = chain([10, 6, 5, 1, 1])
    sent = {"t0": 10.0, "t1": 6.0, "t2": 5.0, "t3": 1.0}
    found = frontier(PlanCosts(graph, np.ones(4), np.zeros(4), sent), WHOLE)
    # (2, 5) is above the line from (1, 6) to (3, 1); nothing is best beyond no bytes at all.
    assert [plan.costs for plan in found.plans] == [
        (0.0, 10.0, 0.0), (1.0, 6.0, 0.0), (3.0, 1.0, 0.0), (4.0, 0.0, 0.0),
    ]  # fmt: skip
    assert [plan.tensors for plan in found.plans] == [("t0",), ("t1",), ("t3",), ()]


def test_a_cut_through_two_branches():
    layers = [(["x"], ["a"]), (["a"], ["b"]), (["a"], ["c"]), (["b", "c"], ["d"])]
    graph = graph_of(["x"], layers, ["d"])
    sent = {"x": 50.0, "a": 20.0, "b": 1.0, "c": 2.0}
    found = frontier(PlanCosts(graph, np.ones(4), np.zeros(4), sent), WHOLE)
    assert ("b", "c") in [plan.tensors for plan in found.plans]
    # With decoding so slow for b alone, it is no longer worth it.
    slow = PlanCosts(graph, np.ones(4), np.zeros(4), sent, encode_s={"b": 9.0})
    assert ("b", "c") not in [plan.tensors for plan in frontier(slow, WHOLE).plans]


def test_one_way_only():
    graph = chain([1, 1])
    found = frontier(PlanCosts(graph, np.ones(1), np.ones(1), {"t0": math.inf}), WHOLE)
    assert [plan.tensors for plan in found.plans] == [()]
    free = PlanCosts(graph, np.zeros(1), np.zeros(1), {"t0": 0.0})
    assert [plan.costs for plan in frontier(free, WHOLE).plans] == [(0.0, 0.0, 0.0)]


@pytest.mark.parametrize("values", [(1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.0, math.inf)])
def test_a_cone_needs_an_inside(values):
    with pytest.raises(ValueError, match="s_per_byte must be a range"):
        Cone(values, (0.0, 1.0))
    with pytest.raises(ValueError, match="server_slowdown must be a range"):
        Cone((0.0, 1.0), values)

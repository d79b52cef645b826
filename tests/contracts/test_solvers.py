"""Every solver of the partition problem: the same least cost as trying all, on random graphs."""

import math

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.planning.brute_force import brute_force
from isthmus.planning.min_cut import min_cut
from isthmus.planning.partition import PartitionProblem
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

FLOAT_RATIO = 1e-12
SOLVERS = [min_cut, brute_force]


def graph_of(inputs, layers, outputs=None):
    """Return a graph from ``(layer, inputs, outputs)``; by default it puts out what is unread."""
    read = {name for _, names, _ in layers for name in names}
    made = [name for _, _, names in layers for name in names]
    unread = tuple(name for name in made if name not in read)
    tensors = {name: TensorSpec(name, "float32", (1,)) for name in (*inputs, *made)}
    nodes = tuple(Layer(name, "Op", tuple(i), tuple(o), 1, 0) for name, i, o in layers)
    return ModelGraph("g", "0" * 64, tuple(inputs), outputs or unread, nodes, tensors)


def problem_of(graph, device_s, server_s, transfer_s, **others):
    device, server = np.array(device_s, float), np.array(server_s, float)
    return PartitionProblem(graph, device, server, transfer_s, **others)


@st.composite
def seconds(draw):
    """Six decades, and zero."""
    if draw(st.integers(0, 9)) == 0:
        return 0.0
    return draw(st.floats(1.0, 10.0)) * 10.0 ** draw(st.integers(-6, -1))


@st.composite
def problems(draw):
    inputs = [f"in{i}" for i in range(draw(st.integers(1, 3)))]
    tensors, layers = list(inputs), []
    for i in range(draw(st.integers(1, 8))):
        least = 0 if draw(st.integers(0, 9)) == 0 else 1  # seldom a layer that reads no data
        names = draw(st.lists(st.sampled_from(tensors[-5:]), min_size=least, max_size=3))
        made = [f"t{i}{part}" for part in "ab"[: draw(st.integers(1, 2))]]
        layers.append((f"l{i}", names, made))
        tensors += made
    graph = graph_of(inputs, layers)
    extra = draw(st.lists(st.sampled_from(tensors), max_size=2, unique=True))
    outputs = tuple(dict.fromkeys((*graph.outputs, *extra)))
    graph = graph_of(inputs, layers, outputs)
    count = len(layers)
    costs = st.lists(seconds(), min_size=count, max_size=count)
    transfer = {name: math.inf if draw(st.integers(0, 19)) == 0 else draw(seconds())
                for name in tensors}  # fmt: skip
    returns = {name: draw(seconds()) for name in outputs if draw(st.booleans())}
    return problem_of(
        graph, draw(costs), draw(costs), transfer, message_s=draw(seconds()), return_s=returns
    )


def executable_cost_s(problem, found):
    """Return what a partition costs, after checking that it can be executed."""
    graph, device = problem.graph, found.device_layers
    crossing, total = set(), 0.0
    for index, layer in enumerate(graph.layers):
        total += (problem.device_s if index in device else problem.server_s)[index]
        for name in layer.inputs:
            made_here = name in graph.inputs or graph.producers[name] in device
            assert made_here or index not in device, "a tensor flows back"
            if made_here and index not in device:
                crossing.add(name)
    assert found.tensors == tuple(sorted(crossing))
    if len(device) == len(graph.layers):
        return total
    away = [
        n for n in problem.return_s if graph.producers.get(n, min(device, default=0)) not in device
    ]
    back = sum(problem.return_s[name] for name in away if name in graph.producers)
    return total + problem.message_s + sum(problem.transfer_s[name] for name in crossing) + back


@settings(max_examples=1000)
@given(problems())
def test_min_cut_costs_what_trying_all_finds(problem):
    exact, found = brute_force(problem), min_cut(problem)
    for one in (exact, found):
        assert one.cost_s == pytest.approx(executable_cost_s(problem, one), rel=FLOAT_RATIO)
    assert exact.error_s == 0
    least = exact.cost_s * (1 - FLOAT_RATIO)
    assert least <= found.cost_s <= exact.cost_s * (1 + FLOAT_RATIO) + found.error_s
    assert found.error_s <= 1e-6 * max(found.cost_s, exact.cost_s + problem.message_s)


def networkx_cost_s(problem):
    """Return the least cost by another solver and another construction: no auxiliary vertices.

    A layer's tensors are paid at a vertex of their own only here and in ``min_cut``; here the
    vertex's value is the flow itself, in floats, with capacities left out where infinite.
    """
    graph, flow = problem.graph, networkx.DiGraph()
    for i in range(len(graph.layers)):
        flow.add_edge("device", i, capacity=float(problem.server_s[i]))
        flow.add_edge(i, "server", capacity=float(problem.device_s[i]))
    for name, readers in graph.consumers.items():
        producer = graph.producers.get(name, "device")
        flow.add_edge(producer, name, capacity=problem.transfer_s[name])
        for reader in readers:
            flow.add_edge(name, reader)
            if producer != "device":
                flow.add_edge(reader, producer)
    value, _ = networkx.minimum_cut(flow, "device", "server")
    return value


def layered_problem(seed, count):
    """Return a network of ``count`` layers with branches, and rational costs of 2^-20 seconds."""
    rng = np.random.default_rng(seed)
    layers, tensors = [], ["in0", "in1"]
    for i in range(count):
        recent = tensors[-int(rng.integers(1, 7)) :]
        names = [str(n) for n in rng.choice(recent, size=min(len(recent), int(rng.integers(1, 4))))]
        layers.append((f"l{i}", names, [f"t{i}"]))
        tensors.append(f"t{i}")
    graph = graph_of(["in0", "in1"], layers)
    device, server = (rng.integers(0, 2000, count) * scale for scale in (2.0**-20, 2.0**-23))
    sizes = {name: int(rng.integers(1, 4000)) * 2.0**-20 for name in graph.tensors}
    return problem_of(graph, device, server, sizes)


@pytest.mark.parametrize("seed", range(12))
def test_networkx_finds_the_same_cost(seed):
    problem = layered_problem(seed, 60 + 20 * seed)
    found, least = min_cut(problem), networkx_cost_s(problem)
    assert least * (1 - 1e-9) <= found.cost_s <= least * (1 + 1e-9) + found.error_s
    assert found.cost_s == pytest.approx(executable_cost_s(problem, found))


def chain(count):
    return graph_of(
        ["x"], [(f"l{i}", ["x" if i == 0 else f"t{i - 1}"], [f"t{i}"]) for i in range(count)]
    )


@pytest.mark.parametrize("solve", SOLVERS)
class TestTraps:
    def test_a_tensor_with_several_readers_is_paid_once(self, solve):
        layers = [("a", ["x"], ["t"]), *((f"r{i}", ["t"], [f"o{i}"]) for i in range(4))]
        graph = graph_of(["x"], layers)
        found = solve(
            problem_of(graph, [0.1, 1, 1, 1, 1], [9, 0.1, 0.1, 0.1, 0.1], {"x": 9, "t": 1.0})
        )
        assert found.tensors == ("t",)
        assert found.cost_s == pytest.approx(0.1 + 0.4 + 1.0)

    def test_nothing_flows_back(self, solve):
        # Layer 1 is slow here, layer 2 is slow there; a solver that gets back for nothing
        # would pay 1 + 0.1 + 1.
        found = solve(problem_of(chain(3), [0, 10, 1], [9, 1, 10], {"x": 9, "t0": 0.1, "t1": 0.1}))
        assert found.device_layers == frozenset({0, 1, 2}) or found.device_layers == frozenset({0})
        assert found.cost_s == pytest.approx(11.0)

    def test_the_input_is_on_the_device(self, solve):
        found = solve(problem_of(chain(2), [1, 1], [0, 0], {"x": 3.0, "t0": 9}))
        assert (found.tensors, found.cost_s) == ((), 2.0)
        found = solve(problem_of(chain(2), [1, 1], [0, 0], {"x": 1.5, "t0": 9}))
        assert (found.tensors, found.cost_s) == (("x",), 1.5)

    def test_an_input_read_twice_is_paid_once(self, solve):
        graph = graph_of(["x"], [("a", ["x"], ["t"]), ("b", ["x", "t"], ["o"])])
        found = solve(problem_of(graph, [2, 2], [0, 0], {"x": 3.0, "t": 0.1}))
        assert (found.tensors, found.cost_s) == (("x",), 3.0)

    def test_large_costs_do_not_overflow(self, solve):
        # Two arcs of 5e9 give 705,032,704 in 32 bits.
        graph = graph_of(["x"], [("a", ["x"], ["t"]), ("b", ["t"], ["o"])])
        found = solve(problem_of(graph, [5e9, 5e9], [6e9, 6e9], {"x": 1.0, "t": 1.0}))
        assert (found.cost_s, found.tensors) == (1e10, ())
        found = solve(problem_of(graph, [5e9, 5e9], [6e9, 1e9], {"x": 1e9, "t": 1e9}))
        assert (found.cost_s, found.tensors) == (7e9, ("t",))

    def test_one_very_dear_arc_does_not_hide_the_others(self, solve):
        transfer = {"x": 1e12, "t0": 1e-6, "t1": 2e-6}
        found = solve(problem_of(chain(3), [1e-6, 1e-6, 1e7], [1e9, 3e-6, 1e-6], transfer))
        assert (found.tensors, found.cost_s) == (("t1",), pytest.approx(5e-6))

    def test_a_tensor_that_must_not_cross(self, solve):
        transfer = {"x": math.inf, "t0": math.inf, "t1": 0.5}
        found = solve(problem_of(chain(3), [1, 1, 1], [0, 0, 0], transfer))
        assert (found.tensors, found.cost_s) == (("t1",), 2.5)
        found = solve(problem_of(chain(3), [1, 1, 1], [0, 0, 0], dict.fromkeys(transfer, math.inf)))
        assert found.device_layers == frozenset({0, 1, 2})

    def test_layers_and_tensors_that_cost_nothing(self, solve):
        found = solve(problem_of(chain(3), [0, 0, 0], [0, 0, 0], {"x": 0, "t0": 0, "t1": 0}))
        assert (found.device_layers, found.cost_s) == (frozenset({0, 1, 2}), 0.0)
        found = solve(problem_of(chain(3), [0, 0, 1], [1, 0, 0], {"x": 0, "t0": 0.5, "t1": 0.25}))
        assert (found.tensors, found.cost_s) == (("t1",), 0.25)

    def test_the_message_is_paid_once_and_only_if_anything_runs_there(self, solve):
        costs = ([1, 1], [0, 0.5], {"x": 9, "t0": 0.25})
        found = solve(problem_of(chain(2), *costs, message_s=0.125))
        assert (found.tensors, found.cost_s) == (("t0",), 1.875)
        found = solve(problem_of(chain(2), *costs, message_s=0.5))
        assert (found.tensors, found.cost_s) == ((), 2.0)

    def test_the_way_back_is_paid_for_outputs_made_there(self, solve):
        graph = graph_of(["x"], [("a", ["x"], ["t"]), ("b", ["t"], ["o"])], ("t", "o"))
        costs = ([1, 1], [0, 0], {"x": 0.25, "t": 0.5})
        assert solve(problem_of(graph, *costs, return_s={"t": 0.25})).cost_s == 0.5
        found = solve(problem_of(graph, *costs, return_s={"t": 2.0, "o": 0.25}))
        assert (found.tensors, found.cost_s) == (("t",), 1.75)
        found = solve(problem_of(graph, *costs, return_s={"t": 2.0, "o": 2.0}))
        assert (found.tensors, found.cost_s) == ((), 2.0)

    def test_disconnected_parts_are_cut_apart(self, solve):
        graph = graph_of(
            ["x", "y"],
            [("a", ["x"], ["t"]), ("b", ["y"], ["u"]), ("c", [], ["k"]), ("d", ["t"], ["o"])],
        )
        found = solve(problem_of(graph, [1, 1, 1, 1], [9, 0, 0, 9], {"x": 9, "y": 0.5, "t": 9}))
        assert found.device_layers == frozenset({0, 3})
        assert (found.tensors, found.cost_s) == (("y",), 2.5)

    def test_two_tensors_between_the_same_layers_are_both_paid(self, solve):
        graph = graph_of(["x"], [("a", ["x"], ["t", "u"]), ("b", ["t", "u"], ["o"])])
        found = solve(problem_of(graph, [1, 4], [9, 0], {"x": 9, "t": 1, "u": 2}))
        assert (found.tensors, found.cost_s) == (("t", "u"), 4.0)

    def test_a_layer_that_reads_one_tensor_twice_pays_once(self, solve):
        graph = graph_of(["x"], [("a", ["x"], ["t"]), ("b", ["t", "t"], ["o"])])
        found = solve(problem_of(graph, [1, 4], [9, 0], {"x": 9, "t": 1}))
        assert (found.tensors, found.cost_s) == (("t",), 2.0)

"""Every solver of the partition problem: what trying all finds, on random graphs and in traps."""

import math

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import CutError
from isthmus.planning import min_max as min_max_module
from isthmus.planning.brute_force import brute_force, brute_force_min_max
from isthmus.planning.min_cut import cut_free_layers, min_cut
from isthmus.planning.min_max import min_max
from isthmus.planning.partition import PartitionProblem, stage_costs
from isthmus.planning.segments import segments_of
from isthmus.planning.solvers import SOLVERS, STREAM_SOLVERS
from isthmus.planning.two_stage import two_stage, two_stage_published
from isthmus.types.graph import Layer, ModelGraph, TensorSpec

FLOAT_RATIO = 1e-12
EXACT = [SOLVERS[name] for name in ("min_cut", "two_stage", "brute_force")]


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


def random_problem(count, seed):
    """Return a network of ``count`` layers, of one of two kinds, and costs over six decades.

    Either several inputs and outputs, layers that read no data, that make two tensors, that
    nobody reads (dead) and that a mask goes into; or segments of branches between cut vertices.
    """
    rng = np.random.default_rng(seed)
    is_wild = rng.random() < 0.5
    inputs = [f"in{i}" for i in range(rng.integers(1, 4) if is_wild else 1)]
    tensors, layers, waist, ends = list(inputs), [], "in0", []
    for i in range(count):
        made = [f"t{i}{part}" for part in "ab"[: 1 + (is_wild and rng.random() < 0.4)]]
        if is_wild:
            least = 0 if rng.random() < 0.1 else 1
            names = rng.choice(tensors[-5:], size=rng.integers(least, 4)).tolist()
            if names and rng.random() < 0.2:
                names.append("in0")
        elif (closes := rng.random() < 0.4) and ends:
            names, waist, ends = list(ends), made[0], []
        else:
            extends = not closes and ends and rng.random() < 0.5
            names = [ends.pop(int(rng.integers(len(ends)))) if extends else waist]
            ends.append(made[0])
        layers.append((f"l{i}", names, made))
        tensors += made
    graph = graph_of(inputs, layers)
    outputs = dict.fromkeys(graph.outputs)
    if is_wild:
        outputs.update(dict.fromkeys(rng.choice(tensors, size=rng.integers(0, 3)).tolist()))
        if len(outputs) > 1 and rng.random() < 0.3:
            outputs.popitem()
    graph = graph_of(inputs, layers, tuple(outputs))
    decades = 6 if rng.random() < 0.5 else 1

    def seconds():
        return (
            0.0
            if rng.random() < 0.1
            else rng.uniform(1, 10) * 10.0 ** -rng.integers(1, decades + 1)
        )

    transfer = {name: math.inf if rng.random() < 0.05 else seconds() for name in tensors}
    returns = {name: seconds() for name in outputs if rng.random() < 0.5}
    costs = ([seconds() for _ in layers] for _ in range(2))
    return problem_of(graph, *costs, transfer, message_s=seconds(), return_s=returns)


PROBLEMS = st.builds(random_problem, st.integers(1, 9), st.integers(0, 2**32 - 1))


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


@settings(max_examples=6000)
@given(PROBLEMS)
def test_the_exact_solvers_cost_what_trying_all_finds(problem):
    exact = brute_force(problem)
    for found in (exact, min_cut(problem), two_stage(problem)):
        assert found.cost_s == pytest.approx(executable_cost_s(problem, found), rel=FLOAT_RATIO)
        least = exact.cost_s * (1 - FLOAT_RATIO)
        assert least <= found.cost_s <= exact.cost_s * (1 + FLOAT_RATIO) + found.error_s
        assert found.error_s <= 1e-6 * found.cost_s
    assert exact.error_s == 0
    published = two_stage_published(problem)
    assert published.cost_s == pytest.approx(executable_cost_s(problem, published), rel=FLOAT_RATIO)
    assert published.cost_s >= exact.cost_s * (1 - FLOAT_RATIO)


@settings(max_examples=5000)
@given(PROBLEMS)
def test_min_max_has_the_bottleneck_that_trying_all_finds(problem):
    exact, found = brute_force_min_max(problem), min_max(problem)
    assert found.cost_s == pytest.approx(exact.cost_s, rel=FLOAT_RATIO)
    assert found.error_s == 0
    for one in (exact, found):
        assert one.cost_s == stage_costs(problem, one.device_layers).most_s
        total = stage_costs(problem, one.device_layers).sum_s
        assert total == pytest.approx(executable_cost_s(problem, one), rel=FLOAT_RATIO)


@settings(max_examples=60)
@given(PROBLEMS)
def test_dads_heavy_is_within_what_it_proves(problem):
    exact, found = brute_force_min_max(problem), STREAM_SOLVERS["dads_heavy_published"](problem)
    assert found.cost_s == stage_costs(problem, found.device_layers).most_s
    assert exact.cost_s * (1 - FLOAT_RATIO) <= found.cost_s <= 3 * exact.cost_s * (1 + 1e-6)
    assert found.cost_s - found.error_s <= exact.cost_s * (1 + FLOAT_RATIO)


@settings(max_examples=300)
@given(PROBLEMS, st.integers(1, 4))
def test_min_max_says_what_forgetting_may_have_cost(problem, most):
    exact = brute_force_min_max(problem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(min_max_module, "_MOST_LABELS", most)
        found = min_max(problem)
    assert found.cost_s >= exact.cost_s * (1 - FLOAT_RATIO)
    assert found.cost_s - found.error_s <= exact.cost_s * (1 + FLOAT_RATIO)


def test_min_max_of_many_layers_side_by_side_is_bounded():
    rng = np.random.default_rng(0)
    graph = graph_of(["x"], [(f"l{i}", ["x"], [f"t{i}"]) for i in range(40)])
    found = min_max(problem_of(graph, rng.random(40), rng.random(40), {"x": 0.1}))
    assert found.error_s < 0.05 * found.cost_s


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


@pytest.mark.parametrize("solve", [min_cut, two_stage])
@pytest.mark.parametrize("seed", range(8))
def test_networkx_finds_the_same_cost(seed, solve):
    problem = layered_problem(seed, 60 + 20 * seed)
    found, least = solve(problem), networkx_cost_s(problem)
    assert least * (1 - 1e-9) <= found.cost_s <= least * (1 + 1e-9) + found.error_s
    assert found.cost_s == pytest.approx(executable_cost_s(problem, found))


def chain(count):
    return graph_of(
        ["x"], [(f"l{i}", ["x" if i == 0 else f"t{i - 1}"], [f"t{i}"]) for i in range(count)]
    )


@settings(max_examples=300)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_chain_scan_finds_the_optimum_of_chains(count, seed):
    rng = np.random.default_rng(seed)
    graph = chain(count)
    outputs = tuple(rng.choice(list(graph.tensors), size=2, replace=False).tolist())
    graph = graph_of(["x"], [(x.name, x.inputs, x.outputs) for x in graph.layers], outputs)
    transfer = dict(zip(graph.tensors, rng.choice([0.5, 1, 3, math.inf], count + 1), strict=True))
    returns = {outputs[0]: float(rng.random())}
    costs = rng.integers(0, 3, (2, count))
    problem = problem_of(graph, *costs, transfer, message_s=0.25, return_s=returns)
    for solve in (SOLVERS["chain_scan"], two_stage):
        found = solve(problem)
        assert found.cost_s == pytest.approx(brute_force(problem).cost_s, rel=FLOAT_RATIO)
        assert found.cost_s == pytest.approx(executable_cost_s(problem, found), rel=FLOAT_RATIO)


@pytest.mark.parametrize("name", SOLVERS)
def test_whole_numbers_are_no_trouble(name):
    graph = graph_of(["x"], [("a", ["x"], ["t"]), ("b", ["t"], ["o"])], ("t", "o"))
    costs = (np.array([0, 100]), np.array([0, 0]), {"x": 0, "t": 0})
    problem = PartitionProblem(graph, *costs, return_s={"t": 0.5, "o": 0.5})
    assert SOLVERS[name](problem).cost_s == 0.5  # 1.0 with both layers on the server


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("a", ["x"], ["t"]), ("b", ["t"], ["u"]), ("c", ["t", "u"], ["o"])], "'c' reads 't'"),
        ([("a", ["x"], ["t"]), ("b", ["t", "x"], ["o"])], "'b' reads 'x'"),
        ([("a", ["x"], ["t"]), ("b", [], ["o"])], "'b' reads no data"),
    ],
)
def test_chain_scan_names_the_layer_that_breaks_the_chain(layers, message):
    graph = graph_of(["x"], layers)
    count = len(layers)
    problem = problem_of(graph, [1] * count, [1] * count, dict.fromkeys(graph.tensors, 1.0))
    with pytest.raises(CutError, match=f"no chain: layer {message}"):
        SOLVERS["chain_scan"](problem)


def test_a_chain_may_have_several_tensors_between_layers():
    graph = graph_of(["x", "y"], [("a", ["x", "y"], ["t", "u"]), ("b", ["u", "t"], ["o"])])
    problem = problem_of(graph, [1, 9], [9, 1], {"x": 9, "y": 9, "t": 1, "u": 2})
    for solve in (SOLVERS["chain_scan"], *EXACT):
        assert (solve(problem).tensors, solve(problem).cost_s) == (("t", "u"), 5.0)


def test_the_published_two_stage_misses_an_optimum_elsewhere():
    # Cut vertices a, b, c, d. The best of them is c, since its tensor is small; but p is slow
    # there and q is slow here, so that the optimum divides the segment between a and b.
    layers = [
        ("a", ["x"], ["a1", "a2"]), ("p", ["a1"], ["po"]), ("q", ["a2"], ["qo"]),
        ("b", ["po", "qo"], ["bo"]), ("c", ["bo"], ["co"]), ("d", ["co"], ["do"]),
    ]  # fmt: skip
    graph = graph_of(["x"], layers)
    transfer = {"x": 50, "a1": 10, "a2": 0.125, "po": 0.125, "qo": 10, "bo": 5, "co": 0.25}
    problem = problem_of(graph, [0, 1, 20, 0, 0, 10], [0, 100, 1, 0, 0, 0], transfer)
    exact, published = two_stage(problem), two_stage_published(problem)
    assert (exact.tensors, exact.cost_s) == (("a2", "po"), 2.25)
    assert (published.tensors, published.cost_s) == (("co",), 21.25)
    assert exact.cost_s == brute_force(problem).cost_s


def test_a_segment_is_cut_if_its_bound_is_just_below_the_best():
    # Inside, p runs here and q there: 1 + 1 and two tensors of 1, which is the bound itself.
    layers = [
        ("a", ["x"], ["a1", "a2"]), ("p", ["a1"], ["po"]), ("q", ["a2"], ["qo"]),
        ("b", ["po", "qo"], ["bo"]), ("c", ["bo"], ["co"]),
    ]  # fmt: skip
    transfer = {"x": 9, "a1": 3, "a2": 1, "po": 1, "qo": 3, "bo": 0.01}
    problem = problem_of(graph_of(["x"], layers), [0, 1, 3, 0, 9], [9, 3, 1, 0, 0], transfer)
    assert (two_stage(problem).tensors, two_stage(problem).cost_s) == (("a2", "po"), 4.0)


def test_one_tensor_more_may_be_enough_where_one_crosses_anyhow():
    layers = [("a", ["x"], ["t", "e"]), ("p", ["e"], ["po"]), ("b", ["t", "po"], ["bo"])]
    graph = graph_of(["x"], [*layers, ("c", ["bo"], ["co"])])
    transfer = {"x": 9, "t": 1, "e": 5, "po": 1, "bo": 1}
    problem = problem_of(graph, [0, 1, 2, 9], [9, 1, 0, 0], transfer)
    assert (two_stage(problem).tensors, two_stage(problem).cost_s) == (("po", "t"), 3.0)


def test_min_max_remembers_what_is_paid():
    # After l1, one cheaper beginning has paid y instead of x, which is still to be read.
    graph = graph_of(["x", "y"], [("l0", ["y"], ["a"]), ("l1", ["x"], ["b"]), ("l2", ["x"], ["c"])])
    problem = problem_of(graph, [1.99, 1.99, 9], [0, 0, 0.1], {"x": 2, "y": 1.9})
    assert min_max(problem).cost_s == brute_force_min_max(problem).cost_s == 2.0


def test_a_mask_that_many_layers_read_leaves_the_cut_vertices_alone():
    layers = [(f"l{i}", [f"t{i - 1}" if i else "x", "mask"], [f"t{i}"]) for i in range(6)]
    graph = graph_of(["x", "mask"], layers)
    assert [segment.free for segment in segments_of(graph)] == [range(i, i) for i in range(6)]
    transfer = {**dict.fromkeys(graph.tensors, 1.0), "mask": 0.5, "t2": 0.25}
    problem = problem_of(graph, [1, 1, 1, 9, 9, 9], [9, 9, 9, 1, 1, 1], transfer)
    for solve in EXACT:
        assert (solve(problem).tensors, solve(problem).cost_s) == (("mask", "t2"), 6.75)


def test_of_many_segments_few_are_cut(monkeypatch):
    cut = []

    def counted(problem, free, **bound):
        cut.append(free)
        return cut_free_layers(problem, free, **bound)

    monkeypatch.setattr("isthmus.planning.two_stage.cut_free_layers", counted)
    layers, last = [], "x"
    for i in range(50):
        layers += [(f"p{i}", [last], [f"po{i}"]), (f"q{i}", [last], [f"qo{i}"])]
        layers.append((f"m{i}", [f"po{i}", f"qo{i}"], [f"mo{i}"]))
        last = f"mo{i}"
    graph = graph_of(["x"], layers)
    transfer = {name: 100.0 / (2 + graph.producers.get(name, -1)) for name in graph.tensors}
    problem = problem_of(graph, [1.0] * 150, [0.1] * 150, transfer)
    found = two_stage(problem)
    assert found.cost_s == pytest.approx(min_cut(problem).cost_s, rel=FLOAT_RATIO)
    assert 0 < len(cut) < 25


@pytest.mark.parametrize("solve", STREAM_SOLVERS.values(), ids=list(STREAM_SOLVERS))
class TestStreamTraps:
    def test_the_busiest_works_least(self, solve):
        # Latency is least at t1 (0 + 3 + 0), the bottleneck at t0 (2, 2, 2).
        problem = problem_of(chain(3), [2, 1, 9], [9, 1, 1], {"x": 9, "t0": 2, "t1": 0.5})
        found = solve(problem)
        assert (found.tensors, found.cost_s) == (("t0",), 2.0)

    def test_link_and_message_and_way_back_add_up(self, solve):
        costs = ([1, 4], [9, 1], {"x": 9, "t0": 1})
        found = solve(problem_of(chain(2), *costs, message_s=0.5, return_s={"t1": 0.25}))
        assert (found.tensors, found.cost_s) == (("t0",), 1.75)
        found = solve(problem_of(chain(2), *costs, message_s=0.5, return_s={"t1": 9}))
        assert (found.tensors, found.cost_s) == ((), 5.0)

    def test_a_tensor_with_several_readers_is_paid_once(self, solve):
        layers = [("a", ["x"], ["t"]), *((f"r{i}", ["t"], [f"o{i}"]) for i in range(4))]
        graph = graph_of(["x"], layers)
        problem = problem_of(graph, [1, 9, 9, 9, 9], [9, 0.25, 0.25, 0.25, 0.25], {"x": 9, "t": 1})
        assert solve(problem).cost_s == 1.0

    def test_nothing_flows_back(self, solve):
        problem = problem_of(chain(3), [0, 10, 1], [9, 1, 10], {"x": 9, "t0": 0.1, "t1": 0.1})
        assert solve(problem).cost_s == 10.0 if solve is min_max else solve(problem).cost_s >= 10.0

    def test_nothing_costs_anything(self, solve):
        found = solve(problem_of(chain(2), [0, 0], [0, 0], {"x": 0, "t0": 0}))
        assert (found.device_layers, found.cost_s) == (frozenset({0, 1}), 0.0)

    def test_nothing_may_cross(self, solve):
        found = solve(problem_of(chain(2), [1, 2], [0, 0], {"x": math.inf, "t0": math.inf}))
        assert (found.device_layers, found.cost_s) == (frozenset({0, 1}), 3.0)

    def test_large_costs_do_not_overflow(self, solve):
        found = solve(problem_of(chain(2), [5e9, 5e9], [6e9, 4e9], {"x": 1e9, "t0": 1e9}))
        assert (found.cost_s, found.tensors) == (5e9, ("t0",))


@pytest.mark.parametrize("solve", EXACT)
class TestTraps:
    def test_a_layer_that_nobody_reads(self, solve):
        layers = [("dead", ["x"], ["n"]), ("a", ["x"], ["t"]), ("b", ["t"], ["o"])]
        graph = graph_of(["x"], layers, ("o",))
        transfer = {"x": 9, "t": 0.5}
        found = solve(problem_of(graph, [4, 1, 4], [0, 9, 1], transfer))
        assert (found.tensors, found.cost_s) == (("t",), 6.5)
        found = solve(problem_of(graph, [4, 1, 4], [0, 9, 1], {"x": 1, "t": 0.5}))
        assert (found.tensors, found.cost_s) == (("t", "x"), 3.5)

    def test_a_layer_that_reads_no_data_may_be_on_either_side(self, solve):
        layers = [("a", ["x"], ["t"]), ("k", [], ["c"]), ("b", ["t", "c"], ["o"])]
        graph = graph_of(["x"], layers)
        found = solve(problem_of(graph, [1, 5, 9], [9, 1, 1], {"x": 9, "t": 0.5, "c": 9}))
        assert (found.tensors, found.cost_s) == (("t",), 3.5)
        found = solve(problem_of(graph, [1, 1, 9], [9, 5, 1], {"x": 9, "t": 0.5, "c": 0.25}))
        assert (found.tensors, found.cost_s) == (("c", "t"), 3.75)

    def test_all_layers_on_the_device_win_ties(self, solve):
        found = solve(problem_of(chain(2), [1, 1], [1, 0], {"x": 1, "t0": 1}))
        assert (found.device_layers, found.cost_s) == (frozenset({0, 1}), 2.0)

    def test_six_decades_of_costs(self, solve):
        transfer = {"x": 1e3, "t0": 2e-3, "t1": 1e-3, "t2": 1e-3 + 2e-6}
        found = solve(problem_of(chain(4), [1e-3, 1e-3, 1e-6, 1e3], [1e3, 2e-6, 3e-6, 0], transfer))
        assert found.cost_s == pytest.approx(3.003e-3, rel=FLOAT_RATIO)

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

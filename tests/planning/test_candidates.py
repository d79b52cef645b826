import numpy as np
import pytest

from isthmus.errors import CutError
from isthmus.planning.candidates import candidates, estimated_layer_s
from isthmus.planning.pixels import has_pixels
from isthmus.types.cut import device_layers
from isthmus.types.graph import Layer, ModelGraph, TensorSpec


def network(layers, sizes, *, inputs=("x",), outputs=None):
    """Return a graph of ``(op, inputs, output, flops, weight_bytes)``; sizes in elements."""
    nodes = tuple(
        Layer(f"l{i}", op, tuple(reads.split()), (makes,), flops, weights)
        for i, (op, reads, makes, flops, weights) in enumerate(layers)
    )
    tensors = {name: TensorSpec(name, "float32", (size,)) for name, size in sizes.items()}
    outputs = outputs or (layers[-1][2],)
    return ModelGraph("net", "0" * 64, inputs, outputs, nodes, tensors)


M = 10**6
FUNNEL = network(
    [
        ("Conv", "x", "a", 100 * M, 1000),
        ("Relu", "a", "ar", 0, 0),
        ("Conv", "ar", "b", 100 * M, 1000),
        ("Conv", "b", "c", 400 * M, 1000),
        ("Conv", "b", "d", 300 * M, 1000),
        ("Concat", "c d", "e", 0, 0),
        ("Conv", "e", "f", 900 * M, 1000),
        ("Gemm", "f", "g", 1 * M, 10**6),
        ("Softmax", "g", "p", 1000, 0),
    ],
    {"x": 150528, "a": 400000, "ar": 400000, "b": 50000, "c": 20000, "d": 9000, "e": 29000,
     "f": 30000, "g": 1000, "p": 1000},
)  # fmt: skip


def generated(seed, blocks=40, shrink=0.93):
    """Return a network of blocks, some with branches, of random sizes that shrink."""
    rng = np.random.default_rng(seed)
    sizes, layers, last = {"x": 150528}, [], "x"
    for i in range(blocks):
        branches = [f"b{i}.{j}" for j in range(int(rng.integers(1, 4)))]
        for name in branches:
            layers.append(("Conv", last, name, int(rng.integers(10**6, 10**8)), 5000))
            sizes[name] = int(rng.integers(1000, 300_000) * shrink**i)
        layers.append(("Concat", " ".join(branches), f"m{i}", 0, 0))
        last = f"m{i}"
        sizes[last] = sum(sizes[name] for name in branches)
    return network(layers, sizes)


def test_candidates_of_a_funnel():
    cuts = candidates(FUNNEL, limit=20).cuts
    # b: the funnel's end; c and d: less than e; e is the least so far, f within 1.15 of it;
    # g: small, but only the softmax is behind it. a and ar are larger than the input, but ar is
    # best where no pixels may leave and the link is fast.
    assert set(cuts) >= {("b",), ("e",), ("f",), ("g",)}
    assert ("a",) not in cuts
    assert ("x",) not in cuts
    assert ("p",) not in cuts


def test_cuts_come_in_order_of_depth():
    cuts = candidates(FUNNEL, limit=20).cuts
    counts = [len(device_layers(FUNNEL, cut)) for cut in cuts]
    assert counts == sorted(counts)


@pytest.mark.parametrize("seed", range(3))
def test_every_candidate_is_an_interior_cut(seed):
    graph = generated(seed)
    cuts = candidates(graph, limit=100).cuts
    assert len(cuts) == len(set(cuts)) >= 2
    for cut in cuts:
        assert cut == tuple(sorted(cut))
        assert 0 < len(device_layers(graph, cut)) < len(graph.layers)


def test_the_limit_keeps_some_of_them_and_is_deterministic():
    graph = generated(7, blocks=15, shrink=0.7)
    everything = candidates(graph, limit=1000).cuts
    assert len(everything) > 6
    for limit in (0, 1, 3, 6):
        some = candidates(graph, limit=limit).cuts
        assert len(some) == limit
        assert set(some) < set(everything)
        assert some == candidates(graph, limit=limit).cuts
    assert set(candidates(graph, limit=1).cuts) < set(candidates(graph, limit=3).cuts)
    with pytest.raises(ValueError, match="negative"):
        candidates(graph, limit=-1)


def test_an_activation_stays_with_its_layer():
    layers = [
        ("Conv", "x", "a", 50 * M, 100),
        ("Relu", "a", "ar", 0, 0),
        ("Conv", "ar", "b", 500 * M, 100),
        ("Sigmoid", "b", "s", 0, 0),
        ("Mul", "b s", "m", 0, 0),
        ("Conv", "m", "p", 900 * M, 100),
    ]
    sizes = {"x": 150528, "a": 1000, "ar": 1000, "b": 900, "s": 900, "m": 900, "p": 10}
    cuts = candidates(network(layers, sizes), limit=20).cuts
    assert cuts == (("ar",), ("b",), ("m",))  # two layers read b: nothing can be fused there


def test_twins_go_last():
    layers = [
        ("Conv", "x", "a", 500 * M, 100),
        ("Reshape", "a", "again", 0, 0),
        ("Conv", "again", "z", 500 * M, 100),
        ("Conv", "z", "p", 500 * M, 100),
    ]
    graph = network(layers, {"x": 150528, "a": 1000, "again": 1000, "z": 1000, "p": 10})
    assert candidates(graph, limit=9).cuts == (("a",), ("again",), ("z",))
    assert candidates(graph, limit=2).cuts == (("a",), ("z",))


def test_those_that_win_most_come_first():
    layers = [
        ("Conv", "x", "a", 1 * M, 100),
        ("Conv", "a", "b", 20 * M, 100),  # b is smaller, but pays only on slow links
        ("Conv", "b", "p", 20_000 * M, 100),
    ]
    graph = network(layers, {"x": 150528, "a": 1000, "b": 900, "p": 10})
    assert candidates(graph, limit=1).cuts == (("a",),)


def test_a_cut_behind_a_narrower_one_is_left_out():
    layers = [
        ("Conv", "x", "a", 100 * M, 100),
        ("Conv", "a", "b", 100 * M, 100),
        ("Conv", "b", "p", 100 * M, 100),
    ]
    graph = network(layers, {"x": 150528, "a": 1000, "b": 1151, "p": 10})
    assert candidates(graph, limit=9).cuts == (("a",),)
    graph = network(layers, {"x": 150528, "a": 1000, "b": 1150, "p": 10})
    assert candidates(graph, limit=9).cuts == (("a",), ("b",))


def test_a_network_that_grows_has_only_cuts_for_when_no_pixels_may_leave():
    layers = [("Conv", "x", "a", 100 * M, 100), ("Conv", "a", "p", 100 * M, 100)]
    graph = network(layers, {"x": 1000, "a": 5000, "p": 10})
    assert candidates(graph, limit=9).cuts == (("a",),)
    layers[0] = ("MaxPool", "x", "a", 1 * M, 0)
    assert candidates(network(layers, {"x": 1000, "a": 5000, "p": 10}), limit=9).cuts == ()


def test_a_cut_that_only_a_stream_of_requests_wants():
    # The tensor grows, so that no single request gains; but device and server share the work.
    layers = [("MaxPool", "x", "a", 100 * M, 0), ("Conv", "a", "p", 100 * M, 100)]
    graph = network(layers, {"x": 1000, "a": 5000, "p": 10})
    found = candidates(graph, limit=9)
    assert found.cuts == (("a",),)
    assert (found.latency_gap_ratio, found.stage_gap_ratio) == (pytest.approx(0), 0)
    none = candidates(graph, limit=0)
    assert none.latency_gap_ratio == pytest.approx(0)
    assert 0.8 < none.stage_gap_ratio < 1.0  # nearly twice as long with all on one side


def estimated_costs(graph, plans):
    """Yield seconds here, bytes, seconds there of plans, raw tensors."""
    layer_s = np.array([estimated_layer_s(graph, layer) for layer in graph.layers])
    for device in plans:
        is_here = np.isin(np.arange(len(layer_s)), list(device))
        read = {name for i in np.flatnonzero(~is_here) for name in graph.layers[i].inputs}
        sent = [n for n in read if graph.producers.get(n, -1) in device or n in graph.inputs]
        size = sum(graph.tensors[name].size_bytes for name in sent)
        yield layer_s[is_here].sum(), size, layer_s[~is_here].sum() / 10


@pytest.mark.parametrize("limit", [0, 1, 8])
def test_the_latency_gap_is_a_bound_that_sampled_conditions_keep_to(limit):
    graph = generated(3, blocks=12)
    found = candidates(graph, limit=limit)
    count = len(graph.layers)
    kept = [frozenset(range(count)), frozenset(), *(device_layers(graph, c) for c in found.cuts)]
    # Every join of branches, and all cuts by the solver's frontier at no limit.
    every = [device_layers(graph, c) for c in candidates(graph, limit=1000).cuts] + kept
    have, best = (np.array(list(estimated_costs(graph, plans))) for plans in (kept, every))
    rng = np.random.default_rng(5)
    weights = np.ones((2000, 3))
    weights[:, 1] = 8 / 10 ** rng.uniform(np.log10(50e3), 10, 2000)
    weights[:, 2] = 10 ** rng.uniform(-1, 1, 2000)
    losses = (weights @ have.T).min(axis=1) / (weights @ best.T).min(axis=1) - 1
    assert losses.max() <= found.latency_gap_ratio + 1e-9
    assert (found.latency_gap_ratio < 1e-9) == (limit == 8)


def test_a_cut_moved_behind_an_activation_loses_nothing():
    layers = [
        ("Conv", "x", "a", 50 * M, 100),
        ("Relu", "a", "ar", 0, 0),
        ("Conv", "ar", "p", 500 * M, 100),
    ]
    found = candidates(network(layers, {"x": 150528, "a": 9000, "ar": 9000, "p": 10}), limit=9)
    assert found.cuts == (("ar",),)
    assert found.latency_gap_ratio == pytest.approx(0, abs=1e-9)


def test_more_cuts_never_widen_the_gaps():
    graph = generated(4, blocks=12)
    gaps = [candidates(graph, limit=limit) for limit in (0, 2, 4, 8, 1000)]
    for name in ("latency_gap_ratio", "stage_gap_ratio"):
        values = [getattr(one, name) for one in gaps]
        assert values == sorted(values, reverse=True), name
    assert gaps[0].stage_gap_ratio > gaps[-1].stage_gap_ratio
    assert gaps[-1].stage_gap_ratio <= 0.15 + 1e-9


def test_several_outputs_and_inputs():
    layers = [
        ("Conv", "x", "a", 100 * M, 100),
        ("Conv", "a y", "b", 100 * M, 100),
        ("Conv", "a", "early", 1 * M, 100),
        ("Conv", "b", "late", 500 * M, 100),
    ]
    sizes = {"x": 150528, "y": 10, "a": 20000, "b": 900, "early": 5, "late": 10}
    graph = network(layers, sizes, inputs=("x", "y"), outputs=("early", "late"))
    cuts = candidates(graph, limit=9).cuts
    assert ("a", "y") in cuts
    for cut in cuts:
        assert 0 < len(device_layers(graph, cut)) < 4


def test_layer_times_add_arithmetic_traffic_and_overhead():
    graph = network([("Conv", "x x", "a", 2 * M, 1000)], {"x": 1000, "a": 500})
    expected = 2e6 / 2e10 + (1000 + 4000 + 2000) / 5e9 + 5e-6
    assert estimated_layer_s(graph, graph.layers[0]) == pytest.approx(expected)


PIXELS = network(
    [
        ("Sub", "x", "n", 10, 12),  # has a constant, but mixes nothing
        ("MaxPool", "n", "q", 10, 0),
        ("Conv", "q", "c", 10, 432),
        ("MatMul", "q c", "dynamic", 10, 0),  # multiplies data with data: no weights
        ("Concat", "c n", "both", 0, 0),
        ("Relu", "c", "r", 0, 0),
        ("Add", "both dynamic r", "out", 0, 0),
    ],
    dict.fromkeys(["x", "n", "q", "c", "dynamic", "both", "r", "out"], 10),
)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (["x"], True), (["n"], True), (["q"], True), (["c"], False), (["r"], False),
        (["dynamic"], True), (["both"], True), (["c", "n"], True), (["c", "r"], False),
    ],
)  # fmt: skip
def test_has_pixels(tensors, expected):
    assert has_pixels(PIXELS, tensors) is expected


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv"])
def test_weights_hide_pixels(op):
    graph = network([(op, "x", "a", 1, 100), ("Relu", "a", "b", 0, 0)], {"x": 1, "a": 1, "b": 1})
    assert not has_pixels(graph, ["a", "b"])
    bare = network([(op, "x", "a", 1, 0), ("Relu", "a", "b", 0, 0)], {"x": 1, "a": 1, "b": 1})
    assert has_pixels(bare, ["b"])


def test_has_pixels_of_an_unknown_tensor():
    with pytest.raises(CutError, match="no tensor 'nope'"):
        has_pixels(PIXELS, ["x", "nope"])


def test_no_candidate_is_at_an_output():
    layers = [("Conv", "x", "a", 50 * M, 100), ("Conv", "a", "b", 50 * M, 100)]
    sizes = {"x": 9000, "a": 900, "b": 90, "y": 9}
    ends = [("Conv", "b", "y", 50 * M, 100)]
    assert ("a",) in candidates(network([*layers, *ends], sizes), limit=9).cuts
    assert candidates(network([*layers, *ends], sizes, outputs=("a", "y")), limit=9).cuts == (
        ("b",),
    )

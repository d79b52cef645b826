import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.planning.brute_force import brute_force
from isthmus.planning.partition import PartitionProblem, cut_vertices
from isthmus.types.graph import Layer, ModelGraph, TensorSpec


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


def is_passed_by_every_path(graph, removed):
    """Remove a layer; is any way left from an input, or a layer without one, to an output?"""
    reached = set(graph.inputs)
    for index, layer in enumerate(graph.layers):
        if index != removed and (not layer.inputs or reached.intersection(layer.inputs)):
            reached.update(layer.outputs)
    return reached.isdisjoint(graph.outputs)


@st.composite
def graphs(draw):
    inputs = [f"in{i}" for i in range(draw(st.integers(1, 2)))]
    tensors, layers = list(inputs), []
    for i in range(draw(st.integers(1, 12))):
        least = 0 if draw(st.integers(0, 14)) == 0 else 1
        recent = tensors[-draw(st.integers(1, 3)) :]
        reads = draw(st.lists(st.sampled_from(recent), min_size=least, max_size=2))
        makes = [f"t{i}{part}" for part in "ab"[: draw(st.integers(1, 2))]]
        layers.append((reads, makes))
        tensors += makes
    read = {name for reads, _ in layers for name in reads}
    outputs = [makes[0] for _, makes in layers if read.isdisjoint(makes)]
    outputs += draw(
        st.lists(st.sampled_from(tensors), max_size=1).filter(lambda x: x not in outputs)
    )
    return graph_of(inputs, layers, dict.fromkeys(outputs))


@settings(max_examples=500)
@given(graphs())
def test_cut_vertices_are_those_without_which_no_path_is_left(graph):
    expected = [i for i in range(len(graph.layers)) if is_passed_by_every_path(graph, i)]
    assert list(cut_vertices(graph)) == expected


CHAIN = [(["x"], ["a"]), (["a"], ["b"]), (["b"], ["c"])]
DIAMOND = [(["x"], ["a"]), (["a"], ["b"]), (["a"], ["c"]), (["b", "c"], ["d"])]


@pytest.mark.parametrize(
    ("inputs", "layers", "outputs", "expected"),
    [
        (["x"], CHAIN, ["c"], (0, 1, 2)),
        (["x"], CHAIN, ["b", "c"], (0, 1)),
        (["x"], CHAIN, ["a", "c"], (0,)),
        (["x"], CHAIN, ["x", "c"], ()),
        (["x"], DIAMOND, ["d"], (0, 3)),
        (["x", "y"], [*CHAIN[:2], (["b", "y"], ["c"])], ["c"], (2,)),
        (["x"], [*CHAIN[:1], ([], ["b"]), (["a", "b"], ["c"])], ["c"], (2,)),
        (["x"], [(["x"], ["a"]), (["a"], ["b"]), (["a", "b"], ["c"])], ["c"], (0, 2)),
        (["x"], [(["x"], ["a", "b"]), (["a", "b"], ["c"])], ["c"], (0, 1)),
    ],
)
def test_cut_vertices_by_hand(inputs, layers, outputs, expected):
    assert cut_vertices(graph_of(inputs, layers, outputs)) == expected


GRAPH = graph_of(["x"], CHAIN, ["c"])
GOOD = {
    "device_s": np.ones(3),
    "server_s": np.ones(3),
    "transfer_s": {"x": 1.0, "a": 1.0, "b": 1.0},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device_s": np.ones(2)}, "device_s has shape"),
        ({"server_s": np.array([1, math.inf, 1])}, "server_s must be finite"),
        ({"device_s": np.array([1, math.nan, 1])}, "device_s must be finite"),
        ({"device_s": np.array([1, -1.0, 1])}, "device_s must be finite"),
        ({"transfer_s": {"x": 1.0, "a": 1.0}}, "transfer_s lacks 'b'"),
        ({"transfer_s": {"x": 1.0, "a": -1.0, "b": 1.0}}, "transfer_s must not be negative"),
        ({"transfer_s": {"x": 1.0, "a": math.nan, "b": 1.0}}, "transfer_s must not be negative"),
        ({"message_s": math.inf}, "message_s and return_s must be finite"),
        ({"return_s": {"c": math.nan}}, "message_s and return_s must be finite"),
        ({"return_s": {"a": 1.0}}, "'a', which is no output"),
    ],
)
def test_impossible_problems_are_refused(change, message):
    PartitionProblem(GRAPH, **GOOD)
    with pytest.raises(ValueError, match=message):
        PartitionProblem(GRAPH, **{**GOOD, **change})


def test_brute_force_knows_its_limit():
    layers = [(["x"], [f"t{i}"]) for i in range(21)]
    graph = graph_of(["x"], layers, [f"t{i}" for i in range(21)])
    problem = PartitionProblem(graph, np.ones(21), np.ones(21), {"x": 1.0})
    with pytest.raises(ValueError, match="21 layers are too many"):
        brute_force(problem)

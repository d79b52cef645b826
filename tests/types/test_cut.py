import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import CutError
from isthmus.types.cut import Cut, device_layers
from isthmus.types.graph import Layer, ModelGraph, TensorSpec
from isthmus.types.unit import tail_name


def graph_of(layers, inputs=("in",), outputs=("out",)):
    """Make a graph of ``name: inputs -> outputs`` texts."""
    made, names = [], list(inputs)
    for i, text in enumerate(layers):
        reads, _, writes = text.partition("->")
        made.append(Layer(f"layer{i}", "Op", tuple(reads.split()), tuple(writes.split()), 0, 0))
        names += writes.split()
    tensors = {name: TensorSpec(name, "float32", (1, 4)) for name in names}
    return ModelGraph("net", "ab" * 32, inputs, outputs, tuple(made), tensors)


CHAIN = graph_of(["in -> a", "a -> b", "b -> out"])
DIAMOND = graph_of(["in -> a", "a -> b", "a -> c", "b c -> out"])
TWO_INPUTS = graph_of(["left -> a", "right -> b", "a b -> out"], inputs=("left", "right"))


def test_an_id_is_the_digest_that_the_shell_computes():
    # printf '%s\n%s\n%s' abcd b/1 x | sha256sum
    assert Cut.of("abcd", ["x", "b/1"]).id == hashlib.sha256(b"abcd\nb/1\nx").hexdigest()[:12]
    assert Cut.of("abcd", ["x", "b/1"]).id == "a60c93c7ee58"


def test_shapes_that_a_file_leaves_open_are_part_of_an_id():
    # printf '%s\n%s\n\n%s' abcd x in=1,3,8,8 | sha256sum
    cut = Cut.of("abcd", ["x"], {"in": [1, 3, 8, 8]})
    assert cut.id == hashlib.sha256(b"abcd\nx\n\nin=1,3,8,8").hexdigest()[:12]
    assert cut != Cut.of("abcd", ["x"], {"in": (1, 3, 8, 9)})
    assert Cut.of("abcd", ["x"], {}) == Cut.of("abcd", ["x"])
    assert Cut.of("ab", "x", {"a": (1,), "b": (2,)}) == Cut.of("ab", "x", {"b": (2,), "a": (1,)})


def test_order_and_repeats_do_not_matter():
    assert Cut.of("ab", ["y", "x", "y"]) == Cut.of("ab", iter("xy"))


@given(st.lists(st.sampled_from("abcd"), min_size=1, unique=True), st.sampled_from(["00", "11"]))
def test_different_cuts_have_different_ids(tensors, digest):
    other = Cut.of("22", tensors)
    assert Cut.of(digest, tensors).id != other.id
    assert Cut.of(digest, [*tensors, "e"]).id != Cut.of(digest, tensors).id


def test_a_tails_name():
    assert tail_name("net", "0123") == "net.tail-0123"


@pytest.mark.parametrize(
    ("graph", "tensors", "expected"),
    [
        (CHAIN, ["in"], []),
        (CHAIN, ["a"], [0]),
        (CHAIN, ["b"], [0, 1]),
        (CHAIN, ["out"], [0, 1, 2]),
        (DIAMOND, ["a"], [0]),
        (DIAMOND, ["a", "b"], [0, 1]),
        (DIAMOND, ["b", "c"], [0, 1, 2]),
        (DIAMOND, ["a", "b", "c"], [0, 1, 2]),
        (DIAMOND, ["out"], [0, 1, 2, 3]),
        (TWO_INPUTS, ["left", "right"], []),
        (TWO_INPUTS, ["a", "right"], [0]),
        (TWO_INPUTS, ["a", "b"], [0, 1]),
    ],
)
def test_the_device_runs_what_the_frontier_depends_on(graph, tensors, expected):
    assert sorted(device_layers(graph, tensors)) == expected


@pytest.mark.parametrize(
    ("graph", "tensors", "missing"),
    [
        (DIAMOND, ["b"], "'a'"),  # c is made on the server, of a, which is not sent
        (DIAMOND, ["c"], "'a'"),
        (TWO_INPUTS, ["a"], "'right'"),
        (TWO_INPUTS, ["b"], "'left'"),
    ],
)
def test_what_is_no_cut_names_the_tensor_that_is_missing(graph, tensors, missing):
    with pytest.raises(CutError, match=missing):
        device_layers(graph, tensors)


def test_unknown_and_no_tensors_are_refused():
    with pytest.raises(CutError, match="no tensor 'zebra'"):
        device_layers(CHAIN, ["a", "zebra"])
    with pytest.raises(CutError, match="at least one"):
        device_layers(CHAIN, [])


@given(st.data())
def test_on_random_graphs_nothing_flows_back_and_nothing_is_missing(data):
    count = data.draw(st.integers(1, 8))
    layers = [
        " ".join(
            data.draw(st.sets(st.sampled_from(["in", *(f"t{j}" for j in range(i))]), min_size=1))
        )
        + f" -> t{i}"
        for i in range(count)
    ]
    graph = graph_of(layers, outputs=(f"t{count - 1}",))
    tensors = data.draw(
        st.sets(st.sampled_from(["in", *(f"t{i}" for i in range(count))]), min_size=1)
    )
    try:
        device = device_layers(graph, tensors)
    except CutError:
        return
    on_device = {"in"} | {name for i in device for name in graph.layers[i].outputs}
    for i, layer in enumerate(graph.layers):
        if i in device:
            assert set(layer.inputs) <= on_device
        else:
            assert set(layer.inputs) & on_device <= tensors

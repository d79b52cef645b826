import hashlib
import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from isthmus.errors import CutError, ModelError
from isthmus.loading.metadata import metadata_of
from isthmus.loading.onnx_file import graph_from_model, load_graph, read_model
from isthmus.loading.saving import check_model
from isthmus.loading.split import split_model
from isthmus.planning.candidates import candidates
from isthmus.planning.partition import cut_vertices
from isthmus.types.cut import Cut, device_layers

SHA256 = "5" * 64


def graph_of(model):
    return graph_from_model(model, name="test", sha256=SHA256)


def inputs_for(graph, seed=0):
    chance = np.random.default_rng(seed)
    return {
        name: chance.normal(size=graph.tensors[name].shape).astype(graph.tensors[name].dtype)
        for name in graph.inputs
    }


def assert_parts_are_the_whole(run, model, graph, split, whole=None):
    """Head, then tail with nothing but what crosses: the outputs of the whole network."""
    feeds = inputs_for(graph)
    whole = whole or run(model, feeds)
    crossing = {name: feeds[name] for name in split.cut.tensors if name in feeds}
    answers = {}
    if split.head is not None:
        check_model(split.head, called="head")
        made = run(split.head, feeds)
        assert list(made)[: len(split.cut.tensors)] == list(split.cut.tensors)
        answers |= {name: made[name] for name in graph.outputs if name in made}
        crossing = {name: made[name] for name in split.cut.tensors}
    check_model(split.tail, called="tail")
    assert [value.name for value in split.tail.graph.input] == list(split.cut.tensors)
    assert all(crossing[n].shape == graph.tensors[n].shape for n in crossing)
    answers |= run(split.tail, crossing)
    assert sorted(answers) == sorted(graph.outputs)
    for name, value in answers.items():
        np.testing.assert_allclose(value, whole[name], rtol=1e-5, atol=1e-6, err_msg=name)


def valid_pairs(graph, step):
    """Pairs of tensors that cut a graph where one alone does not."""
    names = list(graph.tensors)[::step]
    for pair in itertools.combinations(names, 2):
        try:
            device_layers(graph, pair)
        except CutError:
            continue
        yield pair


@pytest.mark.parametrize("name", ["squeezenet", "inception_v1", "shufflenet"])
def test_networks_of_onnx(light, run, name):
    model, graph = read_model(light(name)), load_graph(light(name))
    whole = run(model, inputs_for(graph))
    cuts = [graph.layers[i].outputs for i in cut_vertices(graph)[:-1]]
    pairs = [pair for pair in valid_pairs(graph, 3) if graph.inputs[0] not in pair]
    for tensors in [graph.inputs, *cuts[:: len(cuts) // 4], *pairs[:: max(len(pairs) // 4, 1)]]:
        split = split_model(model, graph, tensors)
        assert_parts_are_the_whole(run, model, graph, split, whole)


def test_a_network_of_the_zoo(run):
    zoo = pytest.importorskip("isthmus_zoo", reason="isthmus-zoo is not installed")
    path = zoo.model_path("mobilenet-v2")
    model, graph = read_model(path), load_graph(path)
    whole = run(model, inputs_for(graph))
    beside_skip = next(
        pair for pair in valid_pairs(graph, 1) if all(graph.producers.get(n, 0) > 40 for n in pair)
    )
    for tensors in (graph.layers[cut_vertices(graph)[20]].outputs, beside_skip):
        split = split_model(model, graph, tensors)
        assert_parts_are_the_whole(run, model, graph, split, whole)
        stored = sum(t.ByteSize() for p in (split.head, split.tail) for t in p.graph.initializer)
        assert stored < 1.01 * path.stat().st_size  # each weight went to one side


OPERATORS = {  # of one, two or three tensors of one shape
    1: ("Relu", "Neg", "Sigmoid", "Tanh", "Identity"),
    2: ("Add", "Mul", "Sub", "Max"),
    3: ("Sum", "Mean"),
}


@st.composite
def networks(draw):
    """Draw nodes over ``x``, ``z`` and shared constants, and outputs, in any order of nodes."""
    names, nodes = ["x", "z"], []
    for i in range(draw(st.integers(2, 10))):
        kind = draw(st.sampled_from(["data", "data", "data", "weight", "shape", "cast"]))
        source = draw(st.sampled_from(names))
        if kind == "weight":
            nodes.append(("MatMul", f"{source} w{draw(st.integers(0, 1))}", f"t{i}"))
        elif kind == "shape":  # of another tensor, which need not be sent for it
            other = draw(st.sampled_from(names))
            nodes += [("Shape", other, f"s{i}"), ("Reshape", f"{source} s{i}", f"t{i}")]
        elif kind == "cast":  # a constant that is computed
            nodes += [("Cast", "half", f"c{i}", {"to": 1}), ("Add", f"{source} c{i}", f"t{i}")]
        else:
            count = draw(st.integers(1, 3))
            chosen = [draw(st.sampled_from(names)) for _ in range(count)]
            operator = draw(st.sampled_from(OPERATORS[count]))
            nodes.append((operator, " ".join(chosen), f"t{i}"))
        names.append(f"t{i}")
    inner = names[2:]
    outputs = draw(st.lists(st.sampled_from(inner), min_size=1, max_size=3, unique=True))
    return draw(st.permutations(nodes)), outputs


@settings(max_examples=60)
@given(networks(), st.data())
def test_random_networks(build, run, network, data):
    nodes, outputs = network
    chance = np.random.default_rng(1)
    stored = {
        "w0": chance.normal(size=(4, 4)).astype(np.float32),
        "w1": chance.normal(size=(4, 4)).astype(np.float32),
        "half": np.full((1, 4), 0.5, np.float16),
    }
    model = build(nodes, inputs="x z", outputs=" ".join(outputs), stored=stored)
    graph = graph_of(model)
    whole = run(model, inputs_for(graph))
    names = st.sampled_from(sorted(graph.tensors))
    for _ in range(5):
        tensors = data.draw(st.sets(names, min_size=1, max_size=3))
        try:
            device = device_layers(graph, tensors)
            split = split_model(model, graph, tensors)
        except CutError:
            continue
        assert (split.head is None) == (not device)
        assert_parts_are_the_whole(run, model, graph, split, whole)


@pytest.mark.parametrize(
    ("name", "shapes", "layers", "cut_layers"),
    [
        ("text-detector", {"x": (1, 3, 480, 480)}, 330, 51),
        ("text-detector", {"x": (1, 3, 64, 96)}, 330, 51),
        ("text-recogniser", {"x": (1, 3, 48, 320)}, 403, 213),
        ("text-recogniser", {"x": (2, 3, 48, 64)}, 403, 213),
        ("text-direction", {"x": (3, 3, 48, 192)}, 234, 61),
        ("layout-detector", None, 615, 44),
    ],
)
def test_published_networks(published, run, name, shapes, layers, cut_layers):
    path = published(name)
    model, graph = read_model(path, shapes=shapes), load_graph(path, shapes=shapes)
    assert graph.fixed_shapes == (shapes or {})
    assert graph.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    stored = {name for node in model.graph.node for name in node.output} | set(graph.inputs)
    assert graph.tensors.keys() <= stored
    vertices = cut_vertices(graph)
    assert (len(graph.layers), len(vertices)) == (layers, cut_layers)
    single = [graph.layers[i].outputs for i in vertices if i < len(graph.layers) - 1]
    pairs = [p for p in valid_pairs(graph, layers // 40) if graph.inputs[0] not in p]
    cuts = [graph.inputs, *single[:: len(single) // 2], *pairs[:: max(len(pairs) // 2, 1)]]
    cuts += sorted(candidates(graph, limit=8).cuts, key=len)[-2:]
    if len(graph.outputs) > 1:
        cuts.append(cut_behind(graph, graph.outputs[0]))
    assert {len(tensors) for tensors in cuts} >= {1, 2}
    whole = run(model, inputs_for(graph))
    for tensors in dict.fromkeys(map(tuple, cuts)):
        split = split_model(model, graph, tensors)
        assert_parts_are_the_whole(run, model, graph, split, whole)


def cut_behind(graph, output):
    """Return the cut with all that an output needs on the device, the output with it."""
    here, read = {output}, set()
    for layer in reversed(graph.layers):
        is_needed = not here.isdisjoint(layer.outputs)
        (here if is_needed else read).update(layer.inputs)
        here.update(layer.outputs if is_needed else ())
    return tuple(sorted(here & read | {output}))


@pytest.fixture
def open_network(build):
    """A network that computes the shape of its own output, for photographs of any size."""
    nodes = [
        ("Conv", "x w", "a", {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("Relu", "a", "b"),
        ("Shape", "x", "size"),
        ("Slice", "size two four", "plane"),
        ("Slice", "size zero two", "count"),
        ("Concat", "count plane", "full", {"axis": 0}),
        ("Resize", "b none none full", "c", {"mode": "nearest"}),
        ("Add", "c x", "y"),
    ]
    stored = {
        "w": np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32),
        "none": np.zeros(0, np.float32),
        **{name: np.array([i], np.int64) for name, i in (("zero", 0), ("two", 2), ("four", 4))},
    }
    shapes = {"x": ("n", 3, "h", "w")}
    model = build(nodes, inputs="x", outputs="y", stored=stored, shapes=shapes)
    inner = helper.make_tensor_value_info("a", TensorProto.FLOAT, ("n", 3, "h/2", "w/2"))
    model.graph.value_info.append(inner)
    return model


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 6, 10)])
def test_open_shapes_are_fixed_in_both_parts(open_network, run, shape):
    graph = graph_from_model(open_network, name="test", sha256=SHA256, shapes={"x": shape})
    assert [layer.op_type for layer in graph.layers] == ["Conv", "Relu", "Resize", "Add"]
    for tensors in (["x"], ["b", "x"], ["c", "x"]):
        split = split_model(open_network, graph, tensors)
        assert_parts_are_the_whole(run, open_network, graph, split)
        for part in (split.head, split.tail):
            inner = part.graph if part else onnx.GraphProto()
            values = (*inner.input, *inner.output, *inner.value_info)
            assert all(d.dim_value for v in values for d in v.type.tensor_type.shape.dim)


def test_other_shapes_make_another_cut(open_network):
    shapes = ((1, 3, 8, 8), (1, 3, 8, 10))
    graphs = [
        graph_from_model(open_network, name="test", sha256=SHA256, shapes={"x": shape})
        for shape in shapes
    ]
    ids = [split_model(open_network, graph, ["b", "x"]).cut.id for graph in graphs]
    assert len({*ids, Cut.of(SHA256, ["b", "x"]).id}) == 3


TOWERS = {
    "two branches from input to output": (
        [("MatMul", "x w", "a"), ("Relu", "a", "b"), ("MatMul", "x v", "c"), ("Tanh", "c", "d"),
         ("Concat", "b d", "y", {"axis": 1})],
        "x", "y", [("b", "x"), ("b", "d"), ("a", "c")],
    ),
    "two inputs and two outputs": (
        [("MatMul", "x w", "a"), ("Relu", "a", "b"), ("MatMul", "m v", "c"), ("Tanh", "c", "d"),
         ("Add", "b d", "e"), ("Neg", "e", "y"), ("Mul", "d d", "f"), ("MatMul", "f w", "z")],
        "x m", "y z", [("b", "d"), ("d", "e"), ("e", "f"), ("m", "x"), ("b", "m")],
    ),
    "a mask that many layers read": (
        [("MatMul", "x w", "a"), ("Mul", "a m", "b"), ("MatMul", "b v", "c"), ("Mul", "c m", "d"),
         ("MatMul", "d w", "e"), ("Mul", "e m", "y")],
        "x m", "y", [("a", "m"), ("b", "m"), ("d", "m"), ("m", "x")],
    ),
    "networks side by side": (
        [("MatMul", "x w", "a"), ("Relu", "a", "y"), ("MatMul", "m v", "c"), ("Tanh", "c", "z")],
        "x m", "y z", [("a", "c"), ("a", "m"), ("c", "y"), ("m", "x")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("nodes_inputs_outputs_cuts", TOWERS.values(), ids=TOWERS)
def test_networks_that_no_single_tensor_cuts(build, run, nodes_inputs_outputs_cuts):
    nodes, inputs, outputs, cuts = nodes_inputs_outputs_cuts
    rng = np.random.default_rng(0)
    stored = {name: rng.normal(size=(64, 64)).astype(np.float32) for name in "wv"}
    model = build(nodes, inputs=inputs, outputs=outputs, stored=stored, shape=(8, 64))
    graph = graph_of(model)
    assert set(cut_vertices(graph)) <= {len(graph.layers) - 1}
    found = candidates(graph, limit=12).cuts
    assert all(len(tensors) > 1 for tensors in found)
    for tensors in {*cuts, *found}:
        split = split_model(model, graph, tensors)
        assert_parts_are_the_whole(run, model, graph, split)


@pytest.fixture
def diamond(build):
    nodes = [
        ("Relu", "x", "a"),
        ("MatMul", "a w", "b"),
        ("Neg", "a", "c"),
        ("Add", "b c", "d"),
        ("MatMul", "d w", "y"),
    ]
    model = build(nodes, inputs="x", outputs="y b", stored={"w": np.eye(4, dtype=np.float32)})
    model.producer_name = "somebody"
    props = {"isthmus.task": "t", "isthmus.labels": "[]", "isthmus.input_pipeline": "{}", "k": "v"}
    helper.set_model_props(model, props)
    return model


def names_of(values):
    return [value.name for value in values]


def test_sides_and_their_names(diamond):
    split = split_model(diamond, graph_of(diamond), ["d"])
    assert names_of(split.head.graph.input) == ["x"]
    assert names_of(split.head.graph.output) == ["d", "b"]  # b is answered on the way
    assert names_of(split.tail.graph.input) == ["d"]
    assert names_of(split.tail.graph.output) == ["y"]
    assert names_of(split.head.graph.initializer) == ["w"] == names_of(split.tail.graph.initializer)
    for value in (*split.head.graph.output, *split.tail.graph.input):
        assert [size.dim_value for size in value.type.tensor_type.shape.dim] == [1, 4]
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT


def test_frontier_tensors_that_are_outputs_are_answered_by_the_head(diamond, run):
    graph = graph_of(diamond)
    split = split_model(diamond, graph, ["c", "b"])
    assert split.cut.tensors == ("b", "c")
    assert names_of(split.head.graph.output) == ["b", "c"]
    assert names_of(split.tail.graph.output) == ["y"]
    assert_parts_are_the_whole(run, diamond, graph, split)


def test_a_cut_at_the_inputs_has_no_head(diamond, run):
    graph = graph_of(diamond)
    split = split_model(diamond, graph, ["x"])
    assert split.head is None
    assert_parts_are_the_whole(run, diamond, graph, split)


def test_metadata_that_still_holds(diamond):
    graph = graph_of(diamond)
    split = split_model(diamond, graph, ["d"])
    stamp = {"isthmus.graph_sha256": SHA256, "isthmus.cut_id": split.cut.id}
    both = {"isthmus.task": "t", "k": "v", **stamp}
    assert metadata_of(split.head) == {"isthmus.input_pipeline": "{}", **both}
    assert metadata_of(split.tail) == {"isthmus.labels": "[]", **both}
    whole = metadata_of(split_model(diamond, graph, ["x"]).tail)
    assert whole["isthmus.input_pipeline"] == "{}"
    assert split.tail.producer_name == "somebody"


@pytest.mark.parametrize(("ir_version", "expected"), [(3, 4), (8, 8), (11, 10)])
def test_versions_are_kept_where_all_runtimes_know_them(diamond, ir_version, expected):
    diamond.ir_version = ir_version
    split = split_model(diamond, graph_of(diamond), ["d"])
    assert {split.head.ir_version, split.tail.ir_version} == {expected}
    assert split.head.opset_import == split.tail.opset_import == diamond.opset_import


@pytest.mark.parametrize("opset", [7, 8])
def test_whole_numbers_in_constants_of_old_operator_sets(build, run, opset):
    target = onnx.numpy_helper.from_array(np.array([2, 2], np.int64))
    constant = helper.make_node("Constant", [], ["t"], value=target)
    nodes = [("Relu", "x", "a"), constant, ("Reshape", "a t", "b"), ("Neg", "b", "y")]
    model = build(nodes, inputs="x", outputs="y", opset=opset)
    graph = graph_of(model)
    for tensor in ("x", "a", "b"):
        assert_parts_are_the_whole(run, model, graph, split_model(model, graph, [tensor]))


def test_a_large_constant_may_be_an_output(build, run):
    large = np.ones((64, 64), np.float32)
    constant = helper.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(large))
    model = build([("Relu", "x", "a"), ("Neg", "a", "y"), constant], inputs="x", outputs="y k")
    graph = graph_of(model)
    assert_parts_are_the_whole(run, model, graph, split_model(model, graph, ["a"]))


def test_functions_are_kept(build, run):
    model = build(
        [helper.make_node("Twice", ["x"], ["a"], domain="own"), ("Relu", "a", "y")],
        inputs="x",
        outputs="y",
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Add", ["p", "p"], ["q"])]
    own = helper.make_function("own", "Twice", ["p"], ["q"], body, [helper.make_opsetid("", 13)])
    model.functions.append(own)
    graph = graph_of(model)
    assert_parts_are_the_whole(run, model, graph, split_model(model, graph, ["a"]))


def test_captured_tensors_cross(build, run):
    def branch(op):
        result = helper.make_tensor_value_info("r", TensorProto.FLOAT, (1, 4))
        nodes = [helper.make_node(op, ["a"], ["n"]), helper.make_node("Mul", ["n", "w"], ["r"])]
        return helper.make_graph(nodes, op, [], [result])

    nodes = [
        ("Relu", "x", "a"),
        ("ReduceMax", "a", "m", {"keepdims": 0}),
        ("Greater", "m zero", "c"),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp")),
    ]
    stored = {"zero": np.float32(0), "w": np.full(4, 3, np.float32)}
    model = build(nodes, inputs="x", outputs="y", stored=stored)
    graph = graph_of(model)
    with pytest.raises(CutError, match="also reads 'a'"):
        split_model(model, graph, ["c"])
    assert_parts_are_the_whole(run, model, graph, split_model(model, graph, ["a", "c"]))


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (["c"], "do not cut test in two: .* also reads"),
        (["y"], "do not cut|leave nothing"),
        (["y", "b"], "leave nothing of test for the server"),
        ([], "at least one tensor"),
        (["w"], "has no tensor 'w'"),
    ],
)
def test_what_is_no_cut(diamond, tensors, says):
    with pytest.raises(CutError, match=says):
        split_model(diamond, graph_of(diamond), tensors)


def test_damaged_text_is_a_model_error(diamond):
    graph = graph_of(diamond)
    damaged = diamond.SerializeToString().replace(b"somebody", b"some\xff\xfedy")
    with pytest.raises(ModelError, match="not text"):
        split_model(onnx.ModelProto.FromString(damaged), graph, ["d"])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("fire3/conv_out", "fire3/conv_output"),  # near
        ("/Fire3/Add", "fire3/sum"),  # a layer's name
        ("HIDDEN", "x/hidden/relu/output"),  # a part of a name
    ],
)
def test_unknown_tensors_are_answered_with_names_like_them(build, wrong, right):
    nodes = [
        ("Relu", "x", "fire3/conv_output"),
        helper.make_node("Add", ["x", "fire3/conv_output"], ["fire3/sum"], name="/Fire3/Add"),
        ("Relu", "fire3/sum", "x/hidden/relu/output"),
        ("Neg", "x/hidden/relu/output", "y"),
    ]
    model = build(nodes, inputs="x", outputs="y")
    with pytest.raises(CutError, match=f"no tensor {wrong!r}; did you mean '{right}'"):
        split_model(model, graph_of(model), [wrong])

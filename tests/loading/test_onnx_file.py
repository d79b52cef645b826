import hashlib
import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from isthmus.errors import ModelError
from isthmus.loading.onnx_file import (
    graph_from_model,
    load_graph,
    load_metadata,
    load_variant,
    read_model,
)
from isthmus.planning.partition import cut_vertices

# Layers, cut vertices, and billions of operations: twice the published multiply-adds, and some.
LIGHT = {
    "bvlc_alexnet": (24, 24, 1.318),
    "densenet121": (668, 88, 5.749),
    "inception_v1": (143, 26, 2.891),
    "inception_v2": (371, 31, 4.068),
    "resnet50": (176, 40, 8.218),
    "shufflenet": (203, 40, 0.261),
    "squeezenet": (66, 34, 0.707),
    "vgg19": (46, 46, 39.300),
    "zfnet512": (22, 22, 2.988),
}
WEIGHT = np.ones((4, 4), np.float32)


def graph_of(model):
    return graph_from_model(model, name="test", sha256="0" * 64)


def assert_is_whole(graph):
    """Every layer reads inputs or earlier layers, is needed, and has a name of its own."""
    known = set(graph.inputs)
    for layer in graph.layers:
        assert known.issuperset(layer.inputs)
        assert not known.intersection(layer.outputs)
        known.update(layer.outputs)
    assert known == set(graph.tensors)
    assert known.issuperset(graph.outputs)
    assert len({layer.name for layer in graph.layers}) == len(graph.layers)
    for name in known - set(graph.inputs):
        assert graph.consumers[name] or name in graph.outputs


@pytest.mark.parametrize("name", LIGHT)
def test_loads_the_networks_of_onnx(light, name):
    graph = load_graph(light(name))
    layers, cuts, gflops = LIGHT[name]
    assert_is_whole(graph)
    assert (len(graph.layers), len(cut_vertices(graph))) == (layers, cuts)
    assert graph.flops / 1e9 == pytest.approx(gflops, abs=5e-4)
    assert len(graph.inputs) == len(graph.outputs) == 1
    assert not {layer.op_type for layer in graph.layers} & {"ConstantOfShape", "Constant", "Cast"}
    assert graph.name == f"light_{name}"
    assert graph.sha256 == hashlib.sha256(light(name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "parameters"), [("bvlc_alexnet", 60_965_224), ("vgg19", 143_667_240)]
)
def test_weights_are_those_published(light, name, parameters):
    weights = load_graph(light(name)).weight_bytes
    assert weights == pytest.approx(4 * parameters, rel=1e-6)


def test_loads_the_zoo_with_half_precision_weights_absorbed():
    zoo = pytest.importorskip("isthmus_zoo", reason="isthmus-zoo is not installed")
    for name in zoo.model_names():
        path = zoo.model_path(name)
        graph, variant = load_graph(path), load_variant(path)
        assert_is_whole(graph)
        assert "Cast" not in {layer.op_type for layer in graph.layers}
        assert graph.weight_bytes > 1.9 * path.stat().st_size  # float32 when used, float16 on disk
        assert len(cut_vertices(graph)) > 20
        assert variant.graph_sha256 == graph.sha256
        assert variant.pipeline.tensor_shape == graph.tensors[graph.inputs[0]].shape


def test_order_in_the_file_does_not_matter(light):
    model = onnx.load(light("squeezenet"))
    straight = graph_of(model)
    nodes = list(model.graph.node)
    random.Random(1).shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    shuffled = graph_of(model)
    assert_is_whole(shuffled)
    assert set(shuffled.producers) == set(straight.producers)
    assert (shuffled.flops, shuffled.weight_bytes) == (straight.flops, straight.weight_bytes)


def test_dead_branches_and_unread_outputs_are_left_out(build):
    model = build(
        [
            ("Relu", "x", "a"),
            ("Sigmoid", "x", "dead"),
            ("NonZero", "dead", "deader"),  # its shape could not be inferred
            ("Dropout", "a", "b mask"),
        ],
        inputs="x",
        outputs="b",
    )
    graph = graph_of(model)
    assert [layer.op_type for layer in graph.layers] == ["Relu", "Dropout"]
    assert graph.layers[1].outputs == ("b",)
    assert_is_whole(graph)


def test_layers_have_names_of_their_own(build):
    nodes = [
        helper.make_node("Relu", [a], [b], name=n)
        for a, b, n in (
            ("x", "a", ""),
            ("a", "b", "twin"),
            ("b", "c", "twin"),
            ("c", "d", "Relu_0"),
            ("d", "y", "twin_2"),
        )
    ]
    graph = graph_of(build(nodes, inputs="x", outputs="y"))
    names = [layer.name for layer in graph.layers]
    assert len(set(names)) == 5
    assert (names[1], names[3], names[4]) == ("twin", "Relu_0", "twin_2")


def test_inputs_left_empty_are_no_inputs(build):
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    graph = graph_of(build([node], inputs="x", outputs="y", stored={"high": np.float32(6)}))
    assert graph.layers[0].inputs == ("x",)
    assert graph.layers[0].weight_bytes == 4


def test_a_layer_reads_what_its_branches_capture(build):
    def branch(op):
        result = helper.make_tensor_value_info("r", TensorProto.FLOAT, (1, 4))
        return helper.make_graph([helper.make_node(op, ["a"], ["r"])], op, [], [result])

    nodes = [
        ("Relu", "x", "a"),
        ("ReduceMax", "x", "m", {"keepdims": 0}),
        ("Greater", "m zero", "c"),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("Neg"), else_branch=branch("Exp")),
    ]
    stored = {"zero": np.float32(0)}
    graph = graph_of(build(nodes, inputs="x", outputs="y", stored=stored))
    assert [layer.op_type for layer in graph.layers] == ["Relu", "ReduceMax", "Greater", "If"]
    assert set(graph.layers[-1].inputs) == {"a", "c"}
    assert_is_whole(graph)


def test_a_function_of_the_models_own_is_one_layer(build):
    model = build([helper.make_node("Twice", ["x"], ["y"], domain="own")], inputs="x", outputs="y")
    model.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(
        helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    )
    graph = graph_of(model)
    assert [layer.op_type for layer in graph.layers] == ["Twice"]
    assert graph.tensors["y"].shape == (1, 4)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (("batch", 4), "(batch, 4). Fix the sizes when inspecting or splitting, for example with "
         "`--shape photo=1,4`;"),
        ((None, 3, "h", "w"), "(?, 3, h, w). Fix the sizes when inspecting or splitting, for "
         "example with `--shape photo=1,3,480,480`;"),
        (None, "not given. Fix the sizes when inspecting or splitting, for example with "
         "`--shape photo=1,3,480,480`;"),
    ],
)  # fmt: skip
def test_open_inputs_are_answered_with_what_to_type(build, shape, says):
    model = build([("Relu", "photo", "y")], inputs="photo", outputs="y")
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("photo", TensorProto.FLOAT, shape))
    with pytest.raises(ModelError) as caught:
        graph_of(model)
    assert str(caught.value).startswith(f"the shape of input 'photo' is open: {says}")


def test_shapes_that_depend_on_values_are_refused(build):
    model = build([("NonZero", "x", "n"), ("Cast", "n", "y", {"to": 1})], inputs="x", outputs="y")
    with pytest.raises(ModelError, match=r"'n' \(output of NonZero node 'n'\) is dynamic"):
        graph_of(model)


def test_operators_that_onnx_does_not_know_need_shapes_in_the_file(build, tmp_path):
    foreign = onnx.helper.make_node("QLinearConcat", ["a"], ["b"], domain="com.microsoft")
    model = build([("Relu", "x", "a"), foreign, ("Neg", "b", "y")], inputs="x", outputs="y")
    model.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(ModelError, match=r"'b' \(output of QLinearConcat .*QDQ format"):
        graph_of(model)
    value = onnx.helper.make_tensor_value_info("b", TensorProto.FLOAT, (1, 4))
    model.graph.value_info.append(value)
    assert graph_of(model).tensors["y"].shape == (1, 4)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([("Add", "x b", "a"), ("Relu", "a", "b"), ("Relu", "b", "y")], "cycle"),
        ([("Add", "x ghost", "y")], "'ghost', which no node writes"),
        ([("Relu", "x", "z")], "nothing in the file writes the output 'y'"),
        ([("Reluctant", "x", "y")], "checker"),
        ([("MatMul", "x w", "y")], "do not fit"),
    ],
)
def test_impossible_graphs_are_refused(build, nodes, says):
    stored = {"w": np.ones((3, 3), np.float32)}
    with pytest.raises(ModelError, match=says):
        graph_of(build(nodes, inputs="x", outputs="y", stored=stored))


def test_tensors_of_no_numpy_type_are_refused(build):
    model = build([("Cast", "x", "a", {"to": TensorProto.BFLOAT16}), ("Cast", "a", "y", {"to": 1})],
                  inputs="x", outputs="y")  # fmt: skip
    with pytest.raises(ModelError, match="BFLOAT16"):
        graph_of(model)


@pytest.mark.parametrize("read", [read_model, load_graph, load_variant, load_metadata])
class TestUnreadableFiles:
    def test_missing(self, read, tmp_path):
        with pytest.raises(ModelError, match="net.onnx: there is no such file"):
            read(tmp_path / "net.onnx")

    def test_folder(self, read, tmp_path):
        with pytest.raises(ModelError, match="this is a folder"):
            read(tmp_path)

    def test_path_with_a_null_byte(self, read, tmp_path):
        with pytest.raises(ModelError):
            read(tmp_path / "a\0b")

    @pytest.mark.parametrize(
        "data", [b"", b"\0" * 100, b"hello, world", b"\x89PNG\r\n\x1a\n" + bytes(50)]
    )
    def test_not_onnx(self, read, tmp_path, data):
        path = tmp_path / "net.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError, match="net.onnx"):
            read(path)

    def test_truncated(self, read, light, tmp_path):
        data = light("squeezenet").read_bytes()
        path = tmp_path / "net.onnx"
        for length in (1, 100, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:length])
            with pytest.raises(ModelError, match="net.onnx"):
                read(path)


def test_damaged_files_raise_nothing_but_model_errors(light, tmp_path):
    data = light("bvlc_alexnet").read_bytes()
    chance = random.Random(7)
    path = tmp_path / "net.onnx"
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 3, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        for read in (load_graph, read_model):
            try:
                read(path)
            except ModelError:
                refused += 1
    assert refused > 100


def test_a_stored_tensor_must_hold_what_it_claims(build, tmp_path):
    model = build([("MatMul", "x w", "y")], inputs="x", outputs="y", stored={"w": WEIGHT})
    model.graph.initializer[0].dims[:] = [4, 10**12]
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    for read in (load_graph, read_model):
        with pytest.raises(ModelError, match="'w'.*needs 16000000000000 bytes and has 64"):
            read(path)


def test_half_bytes_are_counted(build, tmp_path):
    model = build([("Relu", "x", "y")], inputs="x", outputs="y")
    stored = model.graph.initializer.add(name="w", data_type=TensorProto.INT4, dims=[6])
    path = tmp_path / "net.onnx"
    for raw_data, dims, says in [
        (bytes(3), [6], None),
        (bytes(4), [6], "needs 3 bytes and has 4"),
        (bytes(3), [-2, -3], "negative dimension"),
    ]:
        stored.raw_data = raw_data
        stored.dims[:] = dims
        path.write_bytes(model.SerializeToString())
        if says is None:
            read_model(path)
            continue
        with pytest.raises(ModelError, match=f"'w'.*{says}"):
            read_model(path)


def test_a_huge_constant_costs_nothing_to_load(build):
    model = build(
        [("ConstantOfShape", "s", "c"), ("MatMul", "x c", "y")],
        inputs="x",
        outputs="y",
        stored={"s": np.array([4, 2**40], np.int64)},
    )
    assert graph_of(model).weight_bytes == 2**44  # it was not made: it would not fit


class TestExternalData:
    @pytest.fixture
    def path(self, build, tmp_path):
        weight = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
        model = build(
            [("MatMul", "x w", "a"), ("Reshape", "a s", "y")],
            inputs="x",
            outputs="y",
            shape=(1, 64),
            stored={"w": weight, "s": np.array([8, 8], np.int64)},
        )
        path = tmp_path / "net.onnx"
        onnx.save(model, path, save_as_external_data=True, location="net.bin", size_threshold=0)
        return path

    def test_is_read(self, path):
        graph = load_graph(path)
        assert graph.tensors["y"].shape == (8, 8)  # the small tensor outside is a shape
        assert graph.weight_bytes == 64 * 64 * 4 + 16
        weight = onnx.numpy_helper.to_array(read_model(path).graph.initializer[0])
        assert weight[1, 0] == 64

    def test_missing(self, path):
        path.with_name("net.bin").unlink()
        for read in (load_graph, read_model):
            with pytest.raises(ModelError, match="'net.bin' is not beside the model"):
                read(path)

    def test_truncated(self, path):
        weights = path.with_name("net.bin")
        weights.write_bytes(weights.read_bytes()[:1000])
        for read in (load_graph, read_model):
            with pytest.raises(ModelError, match="claims 16384 bytes"):
                read(path)

    @pytest.mark.parametrize("location", ["../net.bin", "/etc/passwd", "sub/../../net.bin", ""])
    def test_outside_the_folder(self, path, location):
        model = onnx.load(path, load_external_data=False)
        model.graph.initializer[0].external_data[0].value = location
        path.write_bytes(model.SerializeToString())
        for read in (load_graph, read_model):
            with pytest.raises(ModelError, match="outside the model's folder"):
                read(path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("offset", "-1"), ("length", "x"), ("length", "9"), ("location", "net\0.bin")],
    )
    def test_nonsense(self, path, key, value):
        model = onnx.load(path, load_external_data=False)
        for entry in model.graph.initializer[0].external_data:
            if entry.key == key:
                entry.value = value
        path.write_bytes(model.SerializeToString())
        for read in (load_graph, read_model):
            with pytest.raises(ModelError, match="'w'"):
                read(path)


def test_layers_tell_their_windows(light):
    layers = load_graph(light("bvlc_alexnet")).layers
    convolutions = [layer for layer in layers if layer.op_type == "Conv"]
    assert convolutions[0].kernel == (11, 11)
    assert convolutions[0].strides == (4, 4)
    assert [layer.groups for layer in convolutions] == [1, 2, 1, 2, 2]
    assert {layer.kernel for layer in layers if layer.op_type == "MaxPool"} == {(3, 3)}
    assert all(layer.kernel == () for layer in layers if layer.op_type == "Relu")


def test_a_convolution_without_a_kernel_shape_has_that_of_its_weights():
    weights = helper.make_tensor("w", TensorProto.FLOAT, [2, 1, 3, 5], [0.0] * 30)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 6, 4])],
        [weights],
    )
    (layer,) = graph_of(helper.make_model(graph)).layers
    assert (layer.kernel, layer.strides, layer.groups) == ((3, 5), (1, 1), 1)

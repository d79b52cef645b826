import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from isthmus.errors import RepositoryError
from isthmus.loading.onnx_file import graph_from_model, load_graph, read_model
from isthmus.loading.shared_weights import save_sharing_weights
from isthmus.loading.split import split_model

CHANCE = np.random.default_rng(0)
WEIGHT = CHANCE.normal(size=(18, 18)).astype(np.float32)  # 1296 bytes, no multiple of 64
OTHER = CHANCE.normal(size=(18, 18)).astype(np.float32)
FEED = {"x": np.ones((1, 18), np.float32)}


@pytest.fixture
def models(build):
    def one(**stored):
        names = list(stored)
        nodes = [("MatMul", f"x {names[0]}", "a"), ("MatMul", f"a {names[1]}", "b")]
        stored["bias"] = np.ones(18, np.float32)
        nodes.append(("Add", "b bias", "y"))
        return build(nodes, inputs="x", outputs="y", stored=stored, shape=(1, 18))

    return {"first": one(w=WEIGHT, v=OTHER), "second": one(same=OTHER, w=WEIGHT)}


def entries_of(path):
    model = onnx.load(path, load_external_data=False)
    return {t.name: {e.key: e.value for e in t.external_data} for t in model.graph.initializer}


def test_each_weight_is_stored_once(models, tmp_path):
    save_sharing_weights(models, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "first.onnx", "second.onnx", "weights.bin",
    ]  # fmt: skip
    assert (tmp_path / "weights.bin").stat().st_size == 21 * 64 + 1296
    first, second = entries_of(tmp_path / "first.onnx"), entries_of(tmp_path / "second.onnx")
    assert first["w"] == second["w"] == {
        "location": "weights.bin", "offset": "0", "length": "1296",
    }  # fmt: skip
    assert first["v"] == second["same"]
    assert int(first["v"]["offset"]) % 64 == 0
    assert first["bias"] == {}  # small: inline


def test_they_run_as_before(models, tmp_path, run):
    save_sharing_weights(models, tmp_path, weights_name="w.bin")
    for name, model in models.items():
        path = tmp_path / f"{name}.onnx"
        np.testing.assert_array_equal(run(path, FEED)["y"], run(model, FEED)["y"])
        assert load_graph(path).weight_bytes == 2 * 1296 + 72
        stored = {t.name: numpy_helper.to_array(t) for t in read_model(path).graph.initializer}
        np.testing.assert_array_equal(stored["w"], WEIGHT)


def test_weights_in_typed_fields_and_constant_nodes(tmp_path, run, build):
    typed = helper.make_tensor("w", onnx.TensorProto.FLOAT, WEIGHT.shape, WEIGHT.ravel())
    half = WEIGHT.astype(np.float16)
    typed_half = helper.make_tensor("h", onnx.TensorProto.FLOAT16, half.shape, half.ravel())
    assert not typed.HasField("raw_data")
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(WEIGHT))
    nodes = [
        constant,
        ("MatMul", "x c", "a"),
        ("MatMul", "a w", "b"),
        ("Cast", "h", "s", {"to": 1}),
    ]
    model = build([*nodes, ("MatMul", "b s", "y")], inputs="x", outputs="y", shape=(1, 18))
    model.graph.initializer.extend([typed, typed_half])
    save_sharing_weights({"net": model}, tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size == 1296  # h has less than 1 KiB: inline
    np.testing.assert_array_equal(run(tmp_path / "net.onnx", FEED)["y"], run(model, FEED)["y"])


def test_what_has_no_bytes_of_its_own_stays_in_the_file(tmp_path, build):
    model = build([("Relu", "x", "y")], inputs="x", outputs="y")
    narrow = helper.make_tensor("narrow", onnx.TensorProto.INT4, (4000,), np.zeros(4000, np.int8))
    texts = helper.make_tensor("texts", onnx.TensorProto.STRING, (200,), [b"a long text"] * 200)
    model.graph.initializer.extend([narrow, texts])
    save_sharing_weights({"net": model}, tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size == 0
    assert list(onnx.load(tmp_path / "net.onnx").graph.initializer) == [narrow, texts]


def test_a_large_constant_that_is_an_output_stays_a_node(tmp_path, build):
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(WEIGHT))
    model = build([("Relu", "x", "y"), constant], inputs="x", outputs="y c")
    save_sharing_weights({"net": model}, tmp_path)
    assert load_graph(tmp_path / "net.onnx").outputs == ("y", "c")  # stored, it would be refused


def test_heads_of_a_network_cost_one_copy_of_its_weights(light, tmp_path, run):
    zoo = pytest.importorskip("isthmus_zoo", reason="isthmus-zoo is not installed")
    path = zoo.model_path("squeezenet-1.1")
    model, graph = read_model(path), load_graph(path)
    heads = {
        f"head{i}": split_model(model, graph, [f"/maxpool{i}/MaxPool_output_0"]).head
        for i in (1, 3, 5)
    }
    save_sharing_weights(heads, tmp_path)
    longest = sum(tensor.ByteSize() for tensor in heads["head5"].graph.initializer)
    assert (tmp_path / "weights.bin").stat().st_size < longest
    feed = {"input": np.ones((1, 3, 224, 224), np.float32)}
    for name, head in heads.items():
        for key, value in run(tmp_path / f"{name}.onnx", feed).items():
            np.testing.assert_array_equal(value, run(head, feed)[key])


@pytest.mark.parametrize("name", ["../first", "", "a/b", ".hidden"])
def test_unsafe_names_are_refused_before_anything_is_written(models, tmp_path, name):
    with pytest.raises(RepositoryError):
        save_sharing_weights({name: models["first"]}, tmp_path)
    with pytest.raises(RepositoryError):
        save_sharing_weights(models, tmp_path, weights_name=name)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(models, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_sharing_weights(models, tmp_path / "nowhere")


def test_the_models_are_not_changed(models, tmp_path):
    before = models["first"].SerializeToString(deterministic=True)
    save_sharing_weights(models, tmp_path)
    assert models["first"].SerializeToString(deterministic=True) == before
    graph = graph_from_model(models["first"], name="first", sha256="")
    assert graph.weight_bytes == 2 * 1296 + 72

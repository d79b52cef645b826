import numpy as np
import onnx
import pytest

from isthmus.errors import ModelError
from isthmus.loading.normal_form import normal_form
from isthmus.loading.onnx_file import graph_from_model
from isthmus.loading.shape_arithmetic import fold_arithmetic

WEIGHT = np.ones((4, 4), np.float32)


def operators(nodes):
    return [node.op_type for node in nodes]


def test_all_that_is_computed_from_constants_is_constant(build):
    model = build(
        [
            ("ConstantOfShape", "s", "c"),
            ("Identity", "c", "i"),
            ("Cast", "half", "single", {"to": 1}),
            ("Add", "i single", "w"),
            ("MatMul", "x w", "a"),
            ("MatMul", "a w", "y"),
        ],
        inputs="x",
        outputs="y",
        stored={"s": np.array([4, 4], np.int64), "half": WEIGHT.astype(np.float16)},
    )
    form = normal_form(model)
    assert operators(form.constant_nodes) == ["ConstantOfShape", "Identity", "Cast", "Add"]
    assert operators(form.layers) == ["MatMul", "MatMul"]
    graph = graph_from_model(model, name="test", sha256="")
    assert [layer.weight_bytes for layer in graph.layers] == [64, 64]  # as used: float32


@pytest.mark.parametrize("ir_version", [3, 8])
def test_stored_tensors_listed_as_inputs_are_constants(build, ir_version):
    shapes = {"w": (4, 4), "s": (2,)}
    model = build(
        [("MatMul", "x w", "a"), ("Reshape", "a s", "y")],
        inputs="w x s",
        outputs="y",
        stored={"w": WEIGHT, "s": np.array([2, 2], np.int64)},
        shapes=shapes,
        ir_version=ir_version,
    )
    model.graph.input[2].type.tensor_type.elem_type = onnx.TensorProto.INT64
    form = normal_form(model)
    assert form.inputs == ("x",)
    assert form.types["y"].static_shape == (2, 2)


@pytest.mark.parametrize("opset", [7, 8, 11, 13, 17])  # before 9, a Constant held floats only
def test_arithmetic_on_shapes_is_done(build, run, opset):
    def unsqueezed(source, target):
        if opset < 13:
            return ("Unsqueeze", source, target, {"axes": [0]})
        return ("Unsqueeze", f"{source} first", target)

    model = build(
        [
            ("Relu", "x", "only_its_shape_counts"),
            ("Shape", "only_its_shape_counts", "s"),
            ("Gather", "s zero", "n"),
            unsqueezed("n", "n1"),
            ("Cast", "n1", "f", {"to": 1}),
            ("Mul", "f half", "g"),
            ("Floor", "g", "h"),
            ("Cast", "h", "i", {"to": 7}),
            ("Concat", "i rest", "t", {"axis": 0}),
            ("Sigmoid", "x", "a"),
            ("Reshape", "a t", "b"),
            ("Shape", "b", "u"),
            ("Reshape", "b u", "y"),
        ],
        inputs="x",
        outputs="y",
        shape=(5, 4),
        opset=opset,
        stored={
            "zero": np.array(0, np.int64),
            "first": np.array([0], np.int64),
            "half": np.array([0.5], np.float32),
            "rest": np.array([-1], np.int64),
        },
    )
    form = normal_form(model)
    assert operators(form.layers) == ["Sigmoid", "Reshape", "Reshape"]
    assert form.types["y"].static_shape == (2, 10)
    assert run(model, {"x": np.ones((5, 4), np.float32)})["y"].shape == (2, 10)


def test_arithmetic_that_would_fill_the_memory_is_not_done(build, monkeypatch):
    def evaluate(*_):
        raise AssertionError("a thousand cubed elements")

    monkeypatch.setattr("isthmus.loading.shape_arithmetic.ReferenceEvaluator", evaluate)
    stored = {
        name: np.ones(shape, bool if name == "c" else np.float32)
        for name, shape in {"c": (1000, 1, 1), "a": (1, 1000, 1), "b": (1, 1, 1000)}.items()
    }
    model = build([("Where", "c a b", "w"), ("Mul", "x w", "y")], inputs="x", outputs="y",
                  shape=(1,), stored=stored)  # fmt: skip
    (node, _) = model.graph.node
    assert fold_arithmetic([node], model) == [node]


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [({}, [2, 3, 5]), ({"start": 1}, [3, 5]), ({"start": -1}, [5]), ({"end": -1}, [2, 3])],
)
def test_parts_of_shapes(build, run, bounds, expected):
    nodes = [("Shape", "x", "s", bounds), ("Cast", "s", "f", {"to": 1}), ("ReduceSum", "x", "r")]
    model = build([*nodes, ("Mul", "r f", "y")], inputs="x", outputs="y", shape=(2, 3, 5), opset=15)
    form = normal_form(model)
    value = onnx.numpy_helper.to_array(form.constant_nodes[0].attribute[0].t)
    assert value.tolist() == expected
    reference = run(model, {"x": np.ones((2, 3, 5), np.float32)})["y"].ravel()
    assert reference.tolist() == [30 * size for size in expected]


def test_random_numbers_are_no_constants(build):
    nodes = [("RandomNormal", "", "r", {"shape": [1, 4]}), ("Add", "x r", "y")]
    form = normal_form(build(nodes, inputs="x", outputs="y"))
    assert operators(form.layers) == ["RandomNormal", "Add"]


def test_a_constant_output_stays_a_layer(build):
    nodes = [("Relu", "x", "y"), ("Identity", "w", "z")]
    form = normal_form(build(nodes, inputs="x", outputs="y z", stored={"w": WEIGHT}))
    assert operators(form.layers) == ["Relu", "Identity"]


@pytest.mark.parametrize(("output", "says"), [("w", "is a stored constant"), ("x", "an input")])
def test_outputs_that_nothing_computes_are_refused(build, output, says):
    model = build([("Relu", "x", "y")], inputs="x", outputs=f"y {output}", stored={"w": WEIGHT})
    with pytest.raises(ModelError, match=f"output '{output}' .*{says}"):
        normal_form(model)


def test_a_network_without_outputs_is_refused(build):
    with pytest.raises(ModelError, match="no outputs"):
        normal_form(build([("Relu", "x", "y")], inputs="x", outputs=""))


def test_the_model_is_not_changed(light):
    model = onnx.load(light("squeezenet"))
    before = model.SerializeToString(deterministic=True)
    normal_form(model)
    assert model.SerializeToString(deterministic=True) == before


def test_large_constants_of_any_kind_keep_their_shapes(build):
    large = np.ones((64, 64), np.float32)
    constant = onnx.helper.make_node(
        "Constant", [], ["c"], value=onnx.numpy_helper.from_array(large)
    )
    nodes = [constant, ("MatMul", "x c", "a"), ("MatMul", "a w", "y")]
    model = build(nodes, inputs="x", outputs="y", stored={"w": large}, shape=(1, 64))
    form = normal_form(model)
    assert operators(form.layers) == ["MatMul", "MatMul"]
    assert form.types["y"].static_shape == (1, 64)
    assert form.size_bytes("c") == form.size_bytes("w") == 64 * 64 * 4

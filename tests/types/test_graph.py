import pytest

from isthmus.types.graph import Layer, ModelGraph, TensorSpec

LAYERS = (
    Layer("conv", "Conv", ("in",), ("a",), 1000, 400),
    Layer("split", "Split", ("a",), ("b", "c"), 0, 0),
    Layer("square", "Mul", ("b", "b"), ("d",), 10, 0),
    Layer("add", "Add", ("d", "c", "a"), ("out",), 20, 4),
)
NAMES = ("in", "a", "b", "c", "d", "out")
GRAPH = ModelGraph(
    "net",
    "ab" * 32,
    ("in",),
    ("out",),
    LAYERS,
    {name: TensorSpec(name, "float32", (1, 2)) for name in NAMES},
)


def test_producers():
    assert GRAPH.producers == {"a": 0, "b": 1, "c": 1, "d": 2, "out": 3}


def test_consumers_are_named_once_each_and_ascending():
    assert GRAPH.consumers == {
        "in": (0,), "a": (1, 3), "b": (2,), "c": (3,), "d": (3,), "out": (),
    }  # fmt: skip


def test_sums():
    assert (GRAPH.flops, GRAPH.weight_bytes) == (1030, 404)


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("float32", (1, 3, 224, 224), 602112),
        ("float16", (2, 3), 12),
        ("int64", (), 8),
        ("bool", (5,), 5),
        ("uint8", (0, 7), 0),
    ],
)
def test_bytes_of_a_tensor(dtype, shape, size):
    assert TensorSpec("x", dtype, shape).size_bytes == size


def test_sizes_beyond_32_bits_do_not_wrap():
    assert TensorSpec("x", "float32", (1 << 20, 1 << 20)).size_bytes == 1 << 42

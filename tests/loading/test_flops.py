import pytest

from isthmus.loading.flops import flops_of

IMAGE = (1, 8, 6, 6)  # 288 elements


@pytest.mark.parametrize(
    ("op_type", "inputs", "output", "attributes", "expected"),
    [
        ("Conv", [IMAGE, (16, 8, 3, 3)], (1, 16, 4, 4), {}, 256 * 2 * 72),
        ("Conv", [IMAGE, (16, 8, 3, 3), (16,)], (1, 16, 4, 4), {}, 256 * (2 * 72 + 1)),
        ("Conv", [IMAGE, (8, 1, 3, 3)], (1, 8, 4, 4), {"group": 8}, 128 * 2 * 9),
        ("Conv", [(1, 2, 9), (4, 2, 3)], (1, 4, 7), {}, 28 * 2 * 6),
        ("Conv", [(1, 2, 4, 4, 4), (3, 2, 2, 2, 2)], (1, 3, 3, 3, 3), {}, 81 * 2 * 16),
        ("ConvTranspose", [IMAGE, (8, 4, 2, 2)], (1, 4, 12, 12), {}, 288 * 2 * 16),
        ("Gemm", [(2, 8), (8, 3), (3,)], (2, 3), {}, 6 * 17),
        ("Gemm", [(8, 2), (8, 3)], (2, 3), {"transA": 1}, 6 * 16),
        ("MatMul", [(5, 2, 8), (8, 3)], (5, 2, 3), {}, 30 * 16),
        ("QLinearConv", [IMAGE, (), (), (16, 8, 3, 3)], (1, 16, 4, 4), {}, 256 * 2 * 72),
        (
            "QLinearConv",
            [IMAGE, (), (), (16, 8, 3, 3), (), (), (), (), (16,)],
            (1, 16, 4, 4),
            {},
            256 * (2 * 72 + 1),
        ),
        ("Einsum", [(2, 3), (3, 4)], (2, 4), {"equation": "ij, jk -> ik"}, 2 * 24),
        ("LSTM", [(7, 1, 4), (1, 12, 4), (1, 12, 3)], (7, 1, 1, 3), {}, 2 * 7 * (48 + 36)),
        ("MaxPool", [IMAGE], (1, 8, 3, 3), {"kernel_shape": (2, 2)}, 72 * 4),
        ("GlobalAveragePool", [IMAGE], (1, 8, 1, 1), {}, 288),
        ("ReduceMean", [IMAGE], (1, 8), {}, 288),
        ("BatchNormalization", [IMAGE, (8,), (8,), (8,), (8,)], IMAGE, {}, 2 * 288),
        ("LRN", [IMAGE], IMAGE, {"size": 5}, 14 * 288),
        ("Softmax", [(1, 10)], (1, 10), {}, 50),
        ("Relu", [IMAGE], IMAGE, {}, 288),
        ("Add", [IMAGE, (8, 1, 1)], IMAGE, {}, 288),
        ("Sum", [IMAGE, IMAGE, IMAGE], IMAGE, {}, 2 * 288),
        ("Resize", [IMAGE], (1, 8, 12, 12), {"mode": "linear"}, 1152 * 7),
        ("Resize", [IMAGE], (1, 8, 12, 6), {"mode": "cubic"}, 576 * 7),
        ("Resize", [IMAGE], (1, 8, 12, 12), {"mode": "nearest"}, 0),
        ("Resize", [IMAGE], (1, 8, 12, 12), {}, 0),
        ("Reshape", [IMAGE, (2,)], (1, 288), {}, 0),
        ("Loop", [None, None], (1,), {}, 0),
        ("SomethingUnheardOf", [IMAGE], IMAGE, {}, 0),
    ],
)
def test_operations(op_type, inputs, output, attributes, expected):
    assert flops_of(op_type, inputs, output, attributes) == expected

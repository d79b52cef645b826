"""Floating point operations of ONNX operators, from shapes alone. It measures nothing.

A multiply-add counts two; comparisons, exponentials, roots and the like count one each, as do
the operations of integer (quantised) operators. With ``x`` the elements of the first input and
``y`` those of the first output:

=========================================== ==================================================
operators                                   operations
=========================================== ==================================================
Conv, ConvInteger, QLinearConv, FusedConv   ``2 y`` times weights of an output channel, + bias
ConvTranspose                               ``2 x`` times weights of an input channel, + bias
Gemm, MatMul and their quantised forms      ``2 y`` times the inner dimension, + addend
Einsum                                      2 times the product of all its indices' sizes
RNN, GRU, LSTM                              2 times the weights, per step and batch entry
AveragePool, MaxPool, LpPool                ``y`` times the elements of the kernel
GlobalAveragePool, reductions, ArgMax, TopK ``x``
LRN                                         ``(2 size + 4) x``
Sum, Mean, Max, Min                         ``y`` times the inputs less one, at least ``y``
Resize, Upsample                            ``y (2 taps - 1)``, 2 or 4 taps an axis; nearest 0
Add, Relu, Sigmoid, normalisations, ...     ``y`` times what ``_ELEMENTWISE`` says, 1 to 8
data movement, casts, all others            0
=========================================== ==================================================

``If``, ``Loop``, ``Scan`` and functions of the model's own count 0: how often their bodies run
is not known from the file. The figures rank layers and fill tables; times are measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["flops_of"]

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
_Formula = Callable[[Sequence[Shape | None], Shape, Attributes], int]

_ELEMENTWISE: Mapping[int, str] = {
    1: """Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr
       BitwiseXor Ceil Cos Cosh CumSum Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN
       Less LessOrEqual Log Mod Mul Neg Not Or Pow Reciprocal Relu Round Sign Sin Sinh Sqrt Sub
       Tan Tanh ThresholdedRelu Where Xor""",
    2: """Affine BatchNormalization Clip DequantizeLinear LeakyRelu PRelu QLinearAdd QLinearMul
       QuantizeLinear Shrink""",
    3: "Celu Elu LpNormalization Softplus Softsign",
    4: "HardSigmoid RMSNormalization Selu Sigmoid",
    5: "HardSwish LogSoftmax QuickGelu Softmax Swish",
    8: """FastGelu Gelu GroupNormalization InstanceNormalization LayerNormalization
       MeanVarianceNormalization Mish SkipLayerNormalization""",
}
_PER_ELEMENT = {name: count for count, names in _ELEMENTWISE.items() for name in names.split()}
_REDUCTIONS = """ArgMax ArgMin GlobalAveragePool GlobalLpPool GlobalMaxPool
    QLinearGlobalAveragePool ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK"""
_PER_ELEMENT_READ = frozenset(_REDUCTIONS.split())


def flops_of(
    op_type: str,
    inputs: Sequence[Shape | None],
    output: Shape,
    attributes: Attributes,
) -> int:
    """Return the floating point operations of one run of an operator.

    Args:
        op_type: ONNX operator.
        inputs: Shapes of its inputs by position, constants included; ``None`` for those left out.
        output: Shape of its first output.
        attributes: Its attributes by name, as Python values.

    Examples:
        >>> flops_of("Conv", [(1, 3, 8, 8), (16, 3, 3, 3), (16,)], (1, 16, 8, 8), {})
        56320
    """
    if op_type in _PER_ELEMENT:
        return _PER_ELEMENT[op_type] * math.prod(output)
    if op_type in _PER_ELEMENT_READ:
        return _elements(inputs, 0)
    formula = _FORMULAS.get(op_type)
    return 0 if formula is None else formula(inputs, output, attributes)


def _elements(inputs: Sequence[Shape | None], index: int) -> int:
    shape = _at(inputs, index)
    return 0 if shape is None else math.prod(shape)


def _at(inputs: Sequence[Shape | None], index: int) -> Shape | None:
    return inputs[index] if index < len(inputs) else None


def _conv(weight: int, bias: int) -> _Formula:
    def formula(inputs: Sequence[Shape | None], output: Shape, _: Attributes) -> int:
        per_output = 2 * math.prod((_at(inputs, weight) or (0, 0))[1:])
        has_bias = bias >= 0 and _at(inputs, bias) is not None
        return math.prod(output) * (per_output + int(has_bias))

    return formula


def _conv_transpose(inputs: Sequence[Shape | None], output: Shape, _: Attributes) -> int:
    per_input = 2 * math.prod((_at(inputs, 1) or (0, 0))[1:])
    has_bias = _at(inputs, 2) is not None
    return _elements(inputs, 0) * per_input + int(has_bias) * math.prod(output)


def _gemm(inputs: Sequence[Shape | None], output: Shape, attributes: Attributes) -> int:
    a = _at(inputs, 0) or (0, 0)
    inner = a[0 if attributes.get("transA", 0) else 1]
    return math.prod(output) * (2 * inner + int(_at(inputs, 2) is not None))


def _matmul(inputs: Sequence[Shape | None], output: Shape, _: Attributes) -> int:
    return 2 * math.prod(output) * (_at(inputs, 0) or (0,))[-1]


def _einsum(inputs: Sequence[Shape | None], _: Shape, attributes: Attributes) -> int:
    sizes: dict[str, int] = {}
    terms = str(attributes.get("equation", "")).replace(" ", "").split("->")[0].split(",")
    for term, shape in zip(terms, inputs, strict=False):
        if "." in term:  # an ellipsis stands for any number of indices
            return 0
        sizes.update(zip(term, shape or (), strict=False))
    return 2 * math.prod(sizes.values()) if sizes else 0


def _recurrent(inputs: Sequence[Shape | None], _: Shape, attributes: Attributes) -> int:
    sequence = _at(inputs, 0) or (0, 0, 0)  # either [steps, batch, size] or [batch, steps, size]
    return 2 * math.prod(sequence[:2]) * (_elements(inputs, 1) + _elements(inputs, 2))


def _pool(_: Sequence[Shape | None], output: Shape, attributes: Attributes) -> int:
    return math.prod(output) * math.prod(attributes.get("kernel_shape", ()))


def _lrn(inputs: Sequence[Shape | None], _: Shape, attributes: Attributes) -> int:
    return _elements(inputs, 0) * (2 * int(attributes.get("size", 1)) + 4)


def _variadic(inputs: Sequence[Shape | None], output: Shape, _: Attributes) -> int:
    return math.prod(output) * max(len(inputs) - 1, 1)


def _resize(inputs: Sequence[Shape | None], output: Shape, attributes: Attributes) -> int:
    mode = attributes.get("mode", "nearest")
    taps_per_axis = {"linear": 2, "cubic": 4}.get(str(mode), 0)
    axes = sum(a != b for a, b in zip(_at(inputs, 0) or (), output, strict=False))
    return math.prod(output) * (2 * taps_per_axis**axes - 1) if taps_per_axis and axes else 0


_FORMULAS: Mapping[str, _Formula] = {
    "Conv": _conv(1, 2),
    "FusedConv": _conv(1, 2),
    "ConvInteger": _conv(1, -1),
    "QLinearConv": _conv(3, 8),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Einsum": _einsum,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "AveragePool": _pool,
    "MaxPool": _pool,
    "LpPool": _pool,
    "LRN": _lrn,
    "Sum": _variadic,
    "Mean": _variadic,
    "Max": _variadic,
    "Min": _variadic,
    "Resize": _resize,
    "Upsample": _resize,
}

"""Writes a convolutional network as a plain ONNX graph, layer by layer.

Every node computes: no exporter's constants, shapes or pads remain, because none are written.
Weights of two or more dimensions are stored as float16 behind a ``Cast`` to float32, biases as
float32. It knows nothing of particular networks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "GraphBuilder"]

INPUT_NAME = "input"
OUTPUT_NAME = "logits"
OPSET = 13
IR_VERSION = 8

Array = npt.NDArray[np.float32]


class GraphBuilder:
    """Collects nodes in the order of computation; each method returns its output tensor's name.

    A layer's ``path`` (``blocks.3/project_conv``) names its node (``/blocks.3/project_conv/Conv``),
    its output (the same with ``_output_0``) and its weights (``blocks.3.project_conv.weight``).
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}

    def conv(
        self,
        x: str,
        path: str,
        weight: Array,
        bias: Array,
        *,
        stride: int = 1,
        pads: Sequence[int] = (0, 0, 0, 0),
        group: int = 1,
    ) -> str:
        """Add a convolution; weight ``(out, in / group, k, k)``, pads top, left, bottom, right."""
        inputs = [x, self._half(path, weight), self._single(f"{_dotted(path)}.bias", bias)]
        kernel = weight.shape[2:]
        return self._add(
            "Conv",
            path,
            inputs,
            dilations=[1, 1],
            group=group,
            kernel_shape=list(kernel),
            pads=list(pads),
            strides=[stride, stride],
        )

    def relu6(self, x: str, path: str) -> str:
        """Add ``min(max(x, 0), 6)`` as Clip; all such layers share the two bounds."""
        low = self._single("relu6.min", np.asarray(0.0, dtype=np.float32))
        high = self._single("relu6.max", np.asarray(6.0, dtype=np.float32))
        return self._add("Clip", path, [x, low, high])

    def relu(self, x: str, path: str) -> str:
        """Add ``max(x, 0)``."""
        return self._add("Relu", path, [x])

    def add(self, x: str, y: str, path: str) -> str:
        """Add the sum of two tensors of one shape."""
        return self._add("Add", path, [x, y])

    def concat(self, tensors: Sequence[str], path: str) -> str:
        """Join tensors along the channels."""
        return self._add("Concat", path, list(tensors), axis=1)

    def max_pool(self, x: str, path: str, *, kernel: int, stride: int) -> str:
        """Add max pooling without padding."""
        return self._add(
            "MaxPool",
            path,
            [x],
            kernel_shape=[kernel, kernel],
            pads=[0, 0, 0, 0],
            strides=[stride, stride],
        )

    def pool_and_flatten(self, x: str, path: str, *, output: str | None = None) -> str:
        """Average over height and width, then flatten ``(1, c, h, w)`` to ``(1, c)``."""
        pooled = self._add("GlobalAveragePool", f"{path}/pool", [x])
        return self.flatten(pooled, path, output=output)

    def flatten(self, x: str, path: str, *, output: str | None = None) -> str:
        """Make ``(1, c, h, w)`` one row ``(1, c * h * w)``."""
        return self._add("Flatten", f"{path}/flatten", [x], output=output, axis=1)

    def linear(
        self, x: str, path: str, weight: Array, bias: Array, *, output: str | None = None
    ) -> str:
        """Add ``x @ weight.T + bias``; weight ``(out, in)``."""
        inputs = [x, self._half(path, weight), self._single(f"{_dotted(path)}.bias", bias)]
        return self._add("Gemm", path, inputs, output=output, transB=1)

    def model(self, name: str, *, input_shape: Sequence[int], classes: int) -> onnx.ModelProto:
        """Return the checked model, with the shape of every tensor in it."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, list(input_shape))],
            [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, classes])],
            initializer=list(self._weights.values()),
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _half(self, path: str, weight: Array) -> str:
        half = weight.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"{path}: a weight is too large for float16")
        name = f"{_dotted(path)}.weight"
        self._weights[name] = numpy_helper.from_array(half, name)
        return self._add("Cast", f"{path}/weight", [name], to=TensorProto.FLOAT)

    def _single(self, name: str, value: Array) -> str:
        if name not in self._weights:
            self._weights[name] = numpy_helper.from_array(value.astype(np.float32), name)
        return name

    def _add(
        self,
        op: str,
        path: str,
        inputs: list[str],
        *,
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        name = f"/{path}/{op}"
        result = output or f"{name}_output_0"
        self._nodes.append(helper.make_node(op, inputs, [result], name=name, **attributes))
        return result


def _dotted(path: str) -> str:
    return path.replace("/", ".")

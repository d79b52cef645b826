"""Small ONNX models, built in a line or two, and the networks that come with onnx."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.fixture(scope="session")
def light():
    """Return the path of one of onnx's networks whose weights are made by ConstantOfShape."""
    return lambda name: LIGHT / f"light_{name}.onnx"


@pytest.fixture(scope="session")
def build():
    """Return a function that makes a model of nodes.

    Nodes are ``(op, inputs, outputs, attributes)``, inputs and outputs space-separated; tensors
    that are read or given out are float32 of ``shape`` unless their shapes are given.
    """

    def make(nodes, *, inputs, outputs, stored=None, shape=(1, 4), shapes=None, **model_fields):
        shapes = shapes or {}
        model_fields = {"ir_version": 8, "opset": 13, **model_fields}
        made = [
            node
            if isinstance(node, onnx.NodeProto)
            else helper.make_node(
                node[0], node[1].split(), node[2].split(), **(node[3] if len(node) > 3 else {})
            )
            for node in nodes
        ]
        graph = helper.make_graph(
            made,
            "test",
            [_value(name, shapes.get(name, shape)) for name in inputs.split()],
            [_value(name, shapes.get(name)) for name in outputs.split()],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in (stored or {}).items()],
        )
        opset = helper.make_opsetid("", model_fields.pop("opset"))
        return helper.make_model(graph, opset_imports=[opset], **model_fields)

    return make


@pytest.fixture(scope="session")
def run():
    """Return a function that runs a model (or its file) in onnxruntime: outputs by name."""

    def call(model, feeds):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        session = onnxruntime.InferenceSession(source, options)
        names = [value.name for value in session.get_outputs()]
        wanted = {value.name for value in session.get_inputs()}
        feeds = {name: value for name, value in feeds.items() if name in wanted}
        return dict(zip(names, session.run(names, feeds), strict=True))

    return call


def _value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

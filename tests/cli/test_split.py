import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import typer
from onnx import TensorProto, helper
from typer.testing import CliRunner

from isthmus.cli.split import command
from isthmus.errors import CutError, ModelError
from isthmus.loading.repository import scan_repository

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SQUEEZENET = LIGHT / "light_squeezenet.onnx"


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(command)

    def call(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments)])

    return call


def test_writes_a_head_and_a_tail_that_make_the_whole(run, tmp_path):
    result = run(SQUEEZENET, "--at", "r17", "-o", tmp_path / "parts")
    assert result.exit_code == 0
    assert "r17  float32 1x128x27x27  373.2 KB" in result.stdout
    photo = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    (middle,) = infer(tmp_path / "parts" / "head.onnx", photo)
    (answer,) = infer(tmp_path / "parts" / "tail.onnx", middle)
    (whole,) = infer(SQUEEZENET, photo)
    np.testing.assert_allclose(answer, whole, rtol=1e-5)


def test_writes_the_tail_as_a_repository(run, tmp_path):
    where = ("--at", "r6", "--at", "r8", "-o", tmp_path)
    result = run(SQUEEZENET, *where, "--repository", "--json", "-")
    record = json.loads(result.stdout)
    assert [spec["name"] for spec in record["crossing"]] == [where[1], where[3]]
    assert record["crossing_bytes"] == sum(spec["size_bytes"] for spec in record["crossing"])
    assert record["tail_name"] == f"light_squeezenet.tail-{record['cut_id']}"
    (found,) = (model for model in scan_repository(tmp_path) if model.name != "head")
    assert (found.name, str(found.path)) == (record["tail_name"], record["tail"])
    assert record["cut_id"] in result.stderr


def test_a_cut_at_the_input_has_no_head(run, tmp_path):
    result = run(SQUEEZENET, "--at", "data_0", "-o", tmp_path)
    assert "head  none" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tail.onnx"]


@pytest.mark.parametrize("part", ["head.onnx", "tail.onnx"])
def test_both_parts_are_written_or_none(run, tmp_path, part):
    (tmp_path / part).mkdir()
    result = run(SQUEEZENET, "--at", "r17", "-o", tmp_path)
    assert isinstance(result.exception, IsADirectoryError)
    assert result.exception.filename == str(tmp_path / part)
    assert [path.name for path in tmp_path.iterdir()] == [part]


def test_a_full_disk_leaves_neither_part(run, tmp_path, monkeypatch):
    synced = []

    def full(descriptor):
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = run(SQUEEZENET, "--at", "r17", "-o", tmp_path / "parts")
    assert isinstance(result.exception, OSError)
    assert len(synced) == 2
    assert not list(tmp_path.iterdir())


def test_names_near_the_wrong_one_are_suggested(run, tmp_path):
    result = run(SQUEEZENET, "--at", "r17_", "-o", tmp_path)
    assert isinstance(result.exception, CutError)
    assert "did you mean 'r17'" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_open_shapes_are_fixed_in_both_parts(run, tmp_path):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ("n", 4)) for n in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    graph = helper.make_graph(nodes, "open", values[:1], values[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    path = tmp_path / "open.onnx"
    path.write_bytes(model.SerializeToString())
    records = []
    for count in (2, 3):
        where = ("--at", "a", "--shape", f"x={count},4", "-o", tmp_path / str(count))
        records.append(json.loads(run(path, *where, "--json", "-").stdout))
        for part in ("head", "tail"):
            session = onnxruntime.InferenceSession(records[-1][part])
            assert session.get_inputs()[0].shape == session.get_outputs()[0].shape == [count, 4]
    assert [record["fixed_shapes"] for record in records] == [{"x": [2, 4]}, {"x": [3, 4]}]
    assert records[0]["graph_sha256"] == records[1]["graph_sha256"]
    assert records[0]["tail_name"] != records[1]["tail_name"]
    assert isinstance(run(path, "--at", "a", "-o", tmp_path).exception, ModelError)


def infer(path, array):
    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {session.get_inputs()[0].name: array})

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import typer
from onnx import TensorProto, helper
from typer.testing import CliRunner

from isthmus.cli.inspect import command
from isthmus.errors import ModelError
from isthmus.loading.onnx_file import load_graph
from isthmus.types.link import Link

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SQUEEZENET = LIGHT / "light_squeezenet.onnx"


@pytest.fixture
def run():
    app = typer.Typer()
    app.command()(command)

    def call(*arguments):
        return CliRunner().invoke(app, [*map(str, arguments)])

    return call


@pytest.mark.parametrize("columns", ["80", "120", "200"])
def test_shows_every_layer_and_tensor(run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    result = run(SQUEEZENET)
    graph = load_graph(SQUEEZENET)
    assert result.exit_code == 0
    text = "".join(result.stdout.split())
    assert graph.sha256 in text
    assert all(name in text for name in graph.tensors)
    assert all(len(line) <= int(columns) for line in result.stdout.splitlines())
    rows = [line.split() for line in result.stdout.splitlines()]
    indices = [cell for row in rows if len(row) > 4 for cell in row[:2] if cell.isdigit()]
    assert indices == [str(i) for i in range(len(graph.layers))]
    assert sum(row[-1:] == ["cut"] for row in rows) == 34
    assert "0.707 GFLOPs" in result.stdout


def test_names_stay_whole_in_narrow_terminals(run, monkeypatch, small_network, tmp_path):
    model = small_network()
    long = "/blocks.14/depthwise_conv/squeeze_and_excite/Conv_output_0"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [long if name == "x" else name for name in names]
    onnx.save(model, tmp_path / "long.onnx")
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(tmp_path / "long.onnx").stdout.splitlines()
    below = lines[lines.index(long) + 1].split()
    assert "1x8x8x8" in below
    assert below[-1] == "cut"


def test_writes_all_of_it_as_json(run, tmp_path):
    result = run(SQUEEZENET, "--json", tmp_path / "out.json")
    assert "GFLOPs" in result.stdout
    record = json.loads((tmp_path / "out.json").read_text())
    graph = load_graph(SQUEEZENET)
    assert record["sha256"] == graph.sha256
    assert record["flops"] == graph.flops == sum(layer["flops"] for layer in record["layers"])
    assert record["inputs"] == [
        {"name": "data_0", "dtype": "float32", "shape": [1, 3, 224, 224], "size_bytes": 602112}
    ]
    marked = [layer["index"] for layer in record["layers"] if layer["is_cut_vertex"]]
    assert marked == record["cut_vertices"]
    assert record["accuracy"] is record["task"] is record["licence"] is None


def test_a_dash_prints_json_and_nothing_else(run):
    result = run(SQUEEZENET, "--json", "-")
    assert len(json.loads(result.stdout)["layers"]) == 66


def test_shows_what_the_file_says_of_itself(run):
    zoo = pytest.importorskip("isthmus_zoo", reason="isthmus-zoo is not installed")
    result = run(zoo.model_path("mobilenet-v2"))
    for text in ("imagenet-1k", "71.88% imagenet_top1 (published", "BSD-3-Clause"):
        assert text in result.stdout


def test_errors_are_left_to_the_caller(run, tmp_path):
    result = run(tmp_path / "net.onnx")
    assert isinstance(result.exception, ModelError)
    assert "no such file" in str(result.exception)


@pytest.fixture
def open_path(tmp_path):
    """A network of two branches for any height and width, and nothing that both pass."""
    shape = (1, 3, "h", "w")
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Tanh", ["x"], ["b"], name="second"),
        helper.make_node("Add", ["a", "b"], ["y"], name="last"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "open", values[:1], values[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    path = tmp_path / "open.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_open_shapes_are_asked_for_and_taken(run, open_path):
    result = run(open_path)
    assert isinstance(result.exception, ModelError)
    assert "`--shape x=1,3,480,480`" in str(result.exception)
    result = run(open_path, "--shape", "x=1,3,20,30", "--json", "-")
    record = json.loads(result.stdout)
    assert record["fixed_shapes"] == {"x": [1, 3, 20, 30]}
    assert record["outputs"][0]["shape"] == [1, 3, 20, 30]
    assert record["sha256"] == hashlib.sha256(open_path.read_bytes()).hexdigest()


def test_says_so_where_there_is_nothing_to_cut(run, tmp_path):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "one", values[:1], values[1:]
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    (tmp_path / "one.onnx").write_bytes(model.SerializeToString())
    text = " ".join(run(tmp_path / "one.onnx").stdout.split())
    assert "cut vertices the only layer: there is nothing inside to cut" in text


def test_says_so_where_no_single_tensor_cuts(run, open_path):
    result = run(open_path, "--shape", "x=1,3,20,30")
    text = " ".join(result.stdout.split())
    assert "cut vertices only the last layer: no single tensor inside the network cuts it" in text
    assert "cuts it in two" not in run(SQUEEZENET).stdout


@pytest.mark.parametrize("texts", [["x"], ["=1,3"], ["x=1,a"], ["x=1,,3"], ["x=1,3", "x=1,3"]])
def test_shapes_that_are_none_are_refused(run, open_path, texts):
    result = run(open_path, *(part for text in texts for part in ("--shape", text)))
    assert result.exit_code == 2
    assert "--shape" in result.stderr


def test_a_bundle_measured_with_a_server_that_decodes_otherwise_says_so(run, tmp_path, monkeypatch):
    told = "photographs decode 30 grey levels apart"
    profile = {"date": "2026-11-21", "device": "d", "server": "s", "disagreements": [told]}
    link = Link(1e6, 1e6, 0.01)
    bundle = SimpleNamespace(
        path=tmp_path, variants={}, candidates=(), profile=profile, profiled_link=lambda: link
    )
    monkeypatch.setattr("isthmus.loading.bundle.open_bundle", lambda path: bundle)
    (tmp_path / "manifest.json").touch()
    result = run(tmp_path)
    assert f"warning: {told}" in result.stdout, result.exception

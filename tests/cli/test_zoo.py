import json
import sys

import pytest
from typer.testing import CliRunner

from isthmus.cli.zoo import command
from isthmus.errors import RepositoryError

isthmus_zoo = pytest.importorskip("isthmus_zoo", reason="isthmus-zoo is not installed")

NAME = "squeezenet-1.1"
ALL = [name for task in isthmus_zoo.tasks() for name in isthmus_zoo.model_names(task)]


def run(*arguments):
    return CliRunner().invoke(command, [*map(str, arguments)])


def test_lists_every_network():
    result = run("list")
    assert result.exit_code == 0
    assert all(name in result.output for name in ALL)


def test_lists_as_json():
    result = run("list", "--json", "-")
    records = json.loads(result.stdout)["models"]
    assert [record["name"] for record in records] == ALL
    assert {record["task"] for record in records} == set(isthmus_zoo.tasks())
    assert all(0.5 < record["accuracy"] < 1 for record in records)
    assert all(record["status"] in ("published", "measured") for record in records)


def test_exports_a_repository_that_can_be_scanned(tmp_path):
    from isthmus.loading.repository import scan_repository

    assert run("export", tmp_path / "models").exit_code == 0
    found = scan_repository(tmp_path / "models")
    assert {model.name for model in found} == set(isthmus_zoo.model_names())
    for model in found:
        assert model.path.read_bytes() == isthmus_zoo.model_path(model.name).read_bytes()


def test_exports_the_networks_of_another_task(tmp_path):
    from isthmus.loading.repository import scan_repository

    assert run("export", tmp_path, "--task", "fashion-mnist").exit_code == 0
    found = {model.name for model in scan_repository(tmp_path)}
    assert found == set(isthmus_zoo.model_names("fashion-mnist"))


@pytest.mark.parametrize("arguments", [("photographs",), ("export", "models")])
def test_an_unknown_task_is_refused_with_the_known_ones(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "--task", "mnist")
    assert result.exit_code == 2
    assert "fashion-mnist" in result.output
    assert not list(tmp_path.iterdir())


def test_prints_paths_of_photographs_for_a_shell(tmp_path):
    lines = run("photographs", "--task", "fashion-mnist").stdout.splitlines()
    expected = isthmus_zoo.photograph_paths("request", task="fashion-mnist")
    assert lines == [str(path) for path in expected]
    assert run("photographs").stdout.splitlines()[0].endswith("alpine-lake.jpg")


def test_exports_the_named_networks_with_their_labels_and_nothing_else(tmp_path):
    assert run("export", tmp_path, NAME).exit_code == 0
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert written == [f"{NAME}/1/model.onnx", f"{NAME}/labels.txt"]
    assert len((tmp_path / NAME / "labels.txt").read_text().splitlines()) == 1000


def test_replaces_what_is_there(tmp_path):
    target = tmp_path / NAME / "1" / "model.onnx"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"half a file")
    assert run("export", tmp_path, NAME).exit_code == 0
    assert target.read_bytes() == isthmus_zoo.model_path(NAME).read_bytes()


def test_an_unknown_network_is_refused_before_anything_is_written(tmp_path):
    result = run("export", tmp_path / "models", NAME, "resnet-9000")
    assert result.exit_code == 2
    assert "resnet-9000" in result.output
    assert not (tmp_path / "models").exists()


def test_without_the_distribution_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "isthmus_zoo", None)
    result = run("list")
    assert isinstance(result.exception, RepositoryError)
    assert "pip install" in str(result.exception)

import json
import platform

import pytest
from typer.testing import CliRunner

from isthmus.cli import profiles
from isthmus.errors import StoreError
from isthmus.profiling.store import Key, ProfileStore

KEY = Key("ab" * 32, "run local", "kiosk", "", "onnxruntime 1.20", "", 1, 1.0)
OTHER = Key(
    "cd" * 32, "load unit x", "", "isthmus 1 at http://edge:8000", "", "onnxruntime 1.19", 0, 1.0
)


@pytest.fixture
def path(tmp_path):
    with ProfileStore(tmp_path / "p.sqlite", now_s=lambda: 1e9) as store:
        store.put(KEY, {"x": 1})
        store.put(OTHER, {"x": 2})
    return tmp_path / "p.sqlite"


def run(*arguments):
    result = CliRunner().invoke(profiles.command, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def stored(path):
    with ProfileStore(path) as store:
        return [one.key for one in store.stored()]


def test_list_says_what_of_where_and_when(path):
    output = run("list", "--store", path).stdout
    assert "2 measurements" in output
    for text in (
        "abababababab",
        "kiosk",
        "onnxruntime 1.20",
        "(onnxruntime 1.19)",
        "1 thread",
        "2001-09-0",
    ):
        assert text in output
    keys = json.loads(run("list", "--store", path, "--json", "-").stdout)
    assert [key["part"] for key in keys] == ["run local", "load unit x"]


def test_the_store_may_be_named_by_the_environment(path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_PROFILES", str(path))
    assert "2 measurements" in run("list").stdout


def test_export_and_import(path, tmp_path):
    target, other = tmp_path / "out.json", tmp_path / "other.sqlite"
    assert "2 measurements exported" in run("export", target, "--store", path).stdout
    assert "2 measurements taken" in run("import", target, "--store", other).stdout
    assert stored(other) == stored(path)
    assert "0 measurements taken" in run("import", target, "--store", other).stdout
    run("import", target, "--as-this-device", "--store", other)
    assert {key.device for key in stored(other)} == {"kiosk", "", platform.node()}


def test_export_to_standard_output_is_json_alone(path):
    assert json.loads(run("export", "-", "--store", path).stdout)["schema"] == 2


@pytest.mark.parametrize("command", [["list"], ["export", "-"], ["forget", "--all"]])
def test_where_nothing_is_kept_nothing_is_made(tmp_path, command):
    with pytest.raises(StoreError, match="nothing is kept there yet"):
        run(*command, "--store", tmp_path / "deep" / "p.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_export_is_refused(path, tmp_path):
    (tmp_path / "x").write_text("[")
    with pytest.raises(StoreError, match="no JSON"):
        run("import", tmp_path / "x", "--store", path)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--network", "AB"], [OTHER]),
        (["--device", "kiosk"], [OTHER]),
        (["--server", "edge:8000"], [KEY]),
        (["--older-than", "30"], []),
        (["--network", "ab", "--server", "edge"], [KEY, OTHER]),
        (["--all"], []),
    ],
)
def test_forget(path, options, left):
    run("forget", *options, "--store", path)
    assert stored(path) == left


@pytest.mark.parametrize("options", [[], ["--all", "--device", "kiosk"]])
def test_forget_wants_to_be_told_what(path, options):
    assert run("forget", *options, "--store", path).exit_code == 2
    assert len(stored(path)) == 2

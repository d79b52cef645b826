import json
import math
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from isthmus.cli.output import JsonTarget, checked_picture, console, write_json


def test_json_goes_where_it_is_wanted(tmp_path, capsys):
    value = {"a": [1, 2.5, None, "ü"]}
    write_json(value, None)
    assert capsys.readouterr().out == ""
    write_json(value, "-")
    assert json.loads(capsys.readouterr().out) == value
    write_json(value, str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == value


def test_json_that_finds_no_room_is_printed_instead(tmp_path, monkeypatch, capsys):
    target = tmp_path / "out.json"
    target.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space .*out\.json"):
        write_json({"a": 1}, str(target))
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command that writes in ``tmp_path``; it returns 3."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()

    @app.command()
    def command(
        json_target: JsonTarget = None,
        picture: Annotated[Path | None, typer.Option(callback=checked_picture)] = None,
    ) -> None:
        raise typer.Exit(3)

    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_a_file_that_cannot_be_written_is_told_before_anything_is_done(run, tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "x.svg").mkdir()
    for arguments in (
        ("--json", "missing/out.json"),
        ("--json", "."),
        ("--json", "file/out.json"),
        ("--picture", "missing/map.svg"),
        ("--picture", "x.svg"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, OSError)
        assert error.filename == arguments[1]
    assert run("--picture", "map.gif").exit_code == 2
    for arguments in (("--json", "-"), ("--json", "file"), ("--picture", "map.png")):
        assert run(*arguments).exit_code == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "x.svg"]
    assert (tmp_path / "file").read_text() == "old"


def test_numbers_that_json_does_not_have_are_null(capsys):
    write_json({"a": (math.nan, math.inf, 1.0), "b": {"c": -math.inf}}, "-")
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.0], "b": {"c": None}}


def test_piped_output_is_wide_and_undecorated(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    console().print("x" * 140, "1.5 :smile:")
    console(stderr=True).print("told aside")
    captured = capsys.readouterr()
    assert captured.out == "x" * 140 + " 1.5 :smile:\n"
    assert captured.err == "told aside\n"

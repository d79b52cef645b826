import json
import math

from isthmus.cli.output import console, write_json


def test_json_goes_where_it_is_wanted(tmp_path, capsys):
    value = {"a": [1, 2.5, None, "ü"]}
    write_json(value, None)
    assert capsys.readouterr().out == ""
    write_json(value, "-")
    assert json.loads(capsys.readouterr().out) == value
    write_json(value, str(tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == value


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

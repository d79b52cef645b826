"""Help is laid out for the terminal that it is read on."""

import contextlib
import io
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from isthmus.cli.help import with_readable_help

app = typer.Typer(rich_markup_mode="rich")


@app.command("one")
def one(*, quick: bool = typer.Option(False, "--quick", help="Sooner."), name: str = "x") -> None:
    """Do it.

    This paragraph is written on two lines
    in its docstring, wherever they end.

    Example: isthmus one
    """


@app.command("two")
def two() -> None:
    """Do the other."""


def test_a_paragraph_is_one_line_and_stays_a_paragraph():
    command = with_readable_help(get_command(app)).commands["one"]
    assert command.help.split("\n\n") == [
        "Do it.",
        "This paragraph is written on two lines in its docstring, wherever they end.",
        "Example: isthmus one",
    ]


def test_flags_name_no_type_and_options_do():
    command = with_readable_help(get_command(app)).commands["one"]
    assert {p.name: p.metavar for p in command.params} == {"quick": "", "name": None}
    assert CliRunner().invoke(app, ["one", "--quick"]).exit_code == 0


def test_help_and_arguments_name_no_type_either():
    app = typer.Typer(rich_markup_mode="rich")

    @app.command()
    def only(files: Annotated[list[Path], typer.Argument(metavar="FILE")], size: int = 1) -> None:
        """Do it."""

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
        with_readable_help(get_command(app))(args=["--help"])
    lines = [line.strip("│ ").split() for line in shown.getvalue().splitlines()]
    assert ["--help", "Show", "this", "message", "and", "exit."] in lines
    assert ["*", "FILE", "[required]"] in lines
    assert any(line[:2] == ["--size", "<int>"] for line in lines)

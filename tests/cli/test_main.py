import importlib
import os
import subprocess
import sys
import types

import pytest
import typer

from isthmus.cli import main as cli
from isthmus.errors import ModelError, ServerUnreachableError


@pytest.fixture
def run(monkeypatch, capsys):
    """Run ``isthmus trial`` with a function as its command; return status, output, errors."""

    def run_command(command, *arguments):
        module = types.ModuleType("isthmus.cli.trial")
        module.command = command
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cli, "COMMANDS", {"trial": "Try.", "other": "Not imported."})
        monkeypatch.setattr(sys, "argv", ["isthmus", "trial", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return run_command


def raising(error):
    def command():
        raise error

    return command


def test_a_command_prints_and_succeeds(run):
    assert run(lambda: print("fine")) == (0, "fine\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("is_buffered", [True, False])
def test_output_that_finds_no_room_is_said_in_one_line(is_buffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if is_buffered else "1"}
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-c", "from isthmus.cli.main import main; main()", "--version"],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
    told = "error: standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_command_may_have_commands_of_its_own(run):
    app = typer.Typer()
    app.command("one")(lambda: print("one"))
    app.command("two")(lambda: print("two"))
    assert run(app, "two") == (0, "two\n", "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ModelError("net.onnx: truncated"), "error: net.onnx: truncated\n"),
        (
            ServerUnreachableError("http://edge:8000: Connection refused"),
            "error: http://edge:8000: Connection refused; is `isthmus serve` running there, and "
            "open to this device (--host)?\n",
        ),
        (
            OSError(28, "No space left on device"),
            "error: standard output: No space left on device\n",
        ),
        (PermissionError(13, "Permission denied", "/x"), "error: /x: Permission denied\n"),
    ],
)
def test_an_error_is_one_line(run, error, line):
    assert run(raising(error)) == (1, "", line)


def test_a_missing_package_is_told_with_what_to_do(run):
    code, _, errors = run(raising(ModuleNotFoundError("No module named 'onnx'", name="onnx")))
    assert code == 1
    assert errors.count("\n") == 1
    assert "'onnx'" in errors
    assert "isthmus[all]" in errors


def test_interrupted_from_the_keyboard(run):
    code, _, errors = run(raising(KeyboardInterrupt()))
    assert code == 130
    assert errors.strip() == "stopped"


def test_a_defect_is_not_hidden(run):
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_a_wrong_command_line_ends_with_two(run):
    code, _, errors = run(lambda: None, "--nonsense")
    assert code == 2
    assert "--nonsense" in errors


def start(*arguments, **options):
    code = "from isthmus.cli.main import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_help_names_all_commands_in_order():
    with start("--help") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    places = [output.index(f" {name} ") for name in cli.COMMANDS]
    assert places == sorted(places)
    assert "isthmus infer app.isthmus photo.jpg" in output


def test_version():
    with start("--version") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.startswith("isthmus ")


def test_help_imports_nothing_heavy():
    code = (
        "import sys, contextlib\n"
        "from isthmus.cli.main import main\n"
        "sys.argv = ['isthmus', '--help']\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "heavy = {'onnx', 'onnxruntime', 'scipy', 'numpy', 'PIL', 'starlette', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stderr == "[]\n"


def test_a_reader_that_goes_away_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", "from isthmus.cli.main import main; main()", "--help"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    os.close(writing)
    assert done.stderr == ""


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_can_be_imported(name):
    module = importlib.import_module(f"isthmus.cli.{name}")
    assert "command" in module.__all__

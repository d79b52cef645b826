"""The command line ``isthmus``: finds the command, calls it, and says errors in one line.

Each command is the ``command`` of the module ``isthmus.cli.<name>``: a function, or a Typer
application with commands of its own. Only the module of the command that was asked for is
imported, so ``isthmus --help`` stays fast. What a command does is not told here.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from isthmus import __version__
from isthmus.errors import IsthmusError, ServerUnreachableError

if TYPE_CHECKING:
    import typer

__all__ = ["COMMANDS", "application", "main"]

COMMANDS: Mapping[str, str] = {
    "demo": "Show on this machine, over an emulated link, what Isthmus does and gains.",
    "zoo": "List the trained networks of isthmus-zoo, or write them into a folder.",
    "serve": "On the edge server: offer the networks of a folder.",
    "build": "On a workstation, once: make a bundle from networks.",
    "profile": "On the device, once: measure what every plan costs with a server.",
    "plan": "Say which plan suits a link and a photograph, and why; or draw the map.",
    "infer": "On the device: answer photographs, each by the plan that suits it now.",
    "profiles": "List, export, import or forget what profiles have measured.",
    "inspect": "Show what a network is made of and where it may be cut.",
    "split": "Cut a network into two ONNX files.",
    "study": "Run an experiment that compares methods side by side.",
}
"""Summary of each command by its name, in the order in which a user meets them."""

_EPILOG = """\
[bold]From networks to answers in four commands[/bold]

[cyan]isthmus serve models/[/cyan]   (on the edge server)

[cyan]isthmus build models/ -o app.isthmus[/cyan]   (on a workstation, once)

[cyan]isthmus profile app.isthmus --server http://edge:8000[/cyan]   (on the device, once)

[cyan]isthmus infer app.isthmus photo.jpg --server http://edge:8000 --deadline 80ms[/cyan]

The folder models/ holds ONNX files as models/NAME/1/model.onnx; \
[cyan]isthmus zoo export models/[/cyan] writes five to start with.
"""


def application(arguments: Sequence[str]) -> typer.Typer:
    """Return the application that can run ``arguments``.

    Args:
        arguments: The command line without the program's name. Only the command that is named
            first is imported; the others are there for the list of commands.
    """
    import typer

    app = typer.Typer(
        name="isthmus",
        help="Run trained networks across a device and a nearby server, each answer in time.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = _not_imported
        if name == wanted:
            command = importlib.import_module(f"isthmus.cli.{name}").command
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=summary)
        else:
            app.command(name, help=summary if command is _not_imported else None)(command)

    @app.callback(invoke_without_command=True)
    def options(
        show_version: bool = typer.Option(False, "--version", help="Show the version and exit."),
    ) -> None:
        if show_version:
            print(f"isthmus {__version__}")
            raise typer.Exit

    return app


def main() -> None:
    """Run the command line and end the process.

    Status 0 is success, 1 an error that was said in one line, 2 a wrong command line, 130
    interrupted from the keyboard.
    """
    arguments = sys.argv[1:]
    try:
        from typer.main import get_command

        from isthmus.cli.help import with_readable_help

        command = with_readable_help(get_command(application(arguments)))
        command(args=arguments, prog_name="isthmus")
    except SystemExit as end:
        if end.code == 130:
            print("stopped", file=sys.stderr)
        _flush()
        raise
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _silence()
        sys.exit(1)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "isthmus"):
            raise
        _fail(f"this command needs {package!r}, which is not installed: install isthmus[all]")
    except ServerUnreachableError as error:
        _fail(f"{error}; is `isthmus serve` running there, and open to this device (--host)?")
    except IsthmusError as error:
        _fail(str(error))
    except OSError as error:
        _fail(_told(error))


def _not_imported() -> None:
    """Stand in for a command that was not asked for."""


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def _flush() -> None:
    """Write out what was printed; a reader that went away is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
    except OSError as error:
        _silence()
        _fail(_told(error))


def _told(error: OSError) -> str:
    """Say where and why: every file is written under its name, so what has none was printed."""
    why = error.strerror or str(error)
    if error.filename:
        return f"{error.filename}: {why}"
    is_of_writing = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    return f"standard output: {why}" if is_of_writing else why


def _silence() -> None:
    """Let the interpreter's last flush go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

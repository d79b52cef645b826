"""What commands share when they print: the console, and figures as JSON. It computes nothing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from isthmus.loading.files import check_file, new_file

__all__ = ["JsonTarget", "checked_file", "checked_picture", "console", "write_json"]

_PICTURES = (".svg", ".png")
_PIPED_WIDTH = 160


def checked_file(path: Path | None) -> Path | None:
    """Return where a file goes if it can be written; a callback for command-line options.

    Raises:
        OSError: If it cannot be written: told before anything is measured.
    """
    if path is not None:
        check_file(path)
    return path


def checked_picture(path: Path | None) -> Path | None:
    """Return where a picture goes, as ``checked_file``.

    Raises:
        typer.BadParameter: If its name does not say one of the kinds of pictures.
    """
    if path is not None and path.suffix not in _PICTURES:
        raise typer.BadParameter(f"a picture is an {' or a '.join(_PICTURES)} file")
    return checked_file(path)


def _checked_target(target: str | None) -> str | None:
    if target not in (None, "-"):
        check_file(Path(target))
    return target


JsonTarget = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write it all as JSON; - prints only that.",
        callback=_checked_target,
    ),
]
"""The option of every command that prints figures."""


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or 160 columns if the output goes elsewhere.

    Args:
        stderr: Whether it writes to standard error, because standard output carries data.
    """
    made = Console(stderr=stderr, highlight=False, emoji=False)
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made = Console(stderr=stderr, highlight=False, emoji=False, width=_PIPED_WIDTH)
    return made


def write_json(value: Any, target: str | None) -> None:
    """Write a value as JSON.

    Args:
        value: Of JSON's kinds; numbers that JSON does not have (NaN, infinities) become null.
        target: A file's path, ``-`` for standard output, or ``None`` for nowhere.

    Raises:
        OSError: If the file cannot be written; the text is then printed, so that it is not lost.
    """
    if target is None:
        return
    text = json.dumps(_with_json_numbers(value), indent=2, allow_nan=False, ensure_ascii=False)
    if target == "-":
        print(text)
        return
    try:
        with new_file(Path(target)) as file:
            file.write(f"{text}\n".encode())
    except OSError:
        print(text)
        raise


def _with_json_numbers(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _with_json_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_json_numbers(item) for item in value]
    return value

"""What commands share when they print: the console, and figures as JSON. It computes nothing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

__all__ = ["JsonTarget", "console", "write_json"]

JsonTarget = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write it all as JSON; - prints only that."),
]
"""The option of every command that prints figures."""

_PIPED_WIDTH = 160


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
        OSError: If the file cannot be written.
    """
    if target is None:
        return
    text = json.dumps(_with_json_numbers(value), indent=2, allow_nan=False, ensure_ascii=False)
    if target == "-":
        print(text)
    else:
        Path(target).write_text(text + "\n", encoding="utf-8")


def _with_json_numbers(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _with_json_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_json_numbers(item) for item in value]
    return value

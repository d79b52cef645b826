"""What people type and read: durations with their units, addresses. It asks nobody anything."""

from __future__ import annotations

import re

import typer

__all__ = ["checked_server", "milliseconds", "seconds_from_text"]

_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(us|ms|s)\s*", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def seconds_from_text(text: str) -> float:
    """Return the seconds that a text such as ``80ms`` or ``1.5s`` says.

    Raises:
        ValueError: If it is no positive duration with a unit (us, ms, s).

    Examples:
        >>> seconds_from_text("80ms"), seconds_from_text("1.5 s")
        (0.08, 1.5)
    """
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise ValueError(
            f"{text!r} is no duration: write a number and a unit, such as 80ms or 1.5s"
        )
    return seconds


def milliseconds(seconds: float) -> str:
    """Return seconds as people read them.

    Examples:
        >>> milliseconds(0.0123), milliseconds(1.5), milliseconds(0.00004)
        ('12.3 ms', '1500 ms', '0.04 ms')
    """
    value = seconds * 1e3
    if value >= 100:
        return f"{value:.0f} ms"
    return f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def checked_server(address: str | None) -> str | None:
    """Return the address of a server if it is one; a callback for command-line options.

    Raises:
        typer.BadParameter: If it is malformed.
    """
    from isthmus.runtime.transport import HttpTransport

    if address is not None:
        try:
            HttpTransport(address)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return address

"""What people type and read: durations with their units, addresses. It asks nobody anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar, overload

import typer

__all__ = [
    "bytes_per_s_from_text",
    "checked_server",
    "megabits",
    "milliseconds",
    "parsed",
    "pixels_from_text",
    "ratio_from_text",
    "seconds_from_text",
]

_T = TypeVar("_T")
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(us|ms|s)\s*", re.ASCII)
_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kmg]?)bit(?:/s)?\s*", re.ASCII | re.I)
_SIZE = re.compile(r"\s*([0-9]{1,6})\s*x\s*([0-9]{1,6})\s*", re.ASCII)
_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(%?)\s*", re.ASCII)
_BITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
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


def ratio_from_text(text: str) -> float:
    """Return the share that a text such as ``3%`` or ``0.03`` says.

    Raises:
        ValueError: If it is none from 0 to 1.

    Examples:
        >>> ratio_from_text("3%"), ratio_from_text("0.25")
        (0.03, 0.25)
    """
    match = _SHARE.fullmatch(text)
    share = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share: write it as 3% or 0.03")
    return share


def bytes_per_s_from_text(text: str) -> float:
    """Return the bytes per second that a rate such as ``10mbit`` or ``500 kbit/s`` says.

    Raises:
        ValueError: If it is no positive rate with a unit (bit, kbit, mbit, gbit).

    Examples:
        >>> bytes_per_s_from_text("10mbit"), bytes_per_s_from_text("1 Gbit/s")
        (1250000.0, 125000000.0)
    """
    match = _RATE.fullmatch(text)
    rate = float(match[1]) * _BITS[match[2].lower()] / 8 if match else 0.0
    if rate <= 0:
        raise ValueError(f"{text!r} is no rate: write a number and a unit, such as 10mbit")
    return rate


def pixels_from_text(text: str) -> tuple[int, int]:
    """Return width and height that a text such as ``1600x1200`` says.

    Raises:
        ValueError: If it says no size.

    Examples:
        >>> pixels_from_text("1600x1200")
        (1600, 1200)
    """
    match = _SIZE.fullmatch(text)
    if not match or int(match[1]) * int(match[2]) == 0:
        raise ValueError(f"{text!r} is no size in pixels: write it as 1600x1200")
    return int(match[1]), int(match[2])


def megabits(bytes_per_s: float) -> str:
    """Return a rate as people read it, with three digits.

    Examples:
        >>> megabits(1250000.0), megabits(6250.0), megabits(1.25e8), megabits(156789.0)
        ('10 Mbit/s', '50 kbit/s', '1 Gbit/s', '1.25 Mbit/s')
    """
    bits = bytes_per_s * 8
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6)):
        if bits >= size:
            return f"{bits / size:.3g} {unit}"
    return f"{bits / 1e3:.3g} kbit/s"


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


@overload
def parsed(parse: Callable[[str], _T], text: str, option: str) -> _T: ...
@overload
def parsed(parse: Callable[[str], _T], text: str | None, option: str) -> _T | None: ...
def parsed(parse: Callable[[str], _T], text: str | None, option: str) -> _T | None:
    """Return what an option's text says; ``None`` if it was not given.

    Args:
        parse: One of the conversions here.
        text: The option's.
        option: Its name, for the message.

    Raises:
        typer.BadParameter: If it is malformed.
    """
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


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

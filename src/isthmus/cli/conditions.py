"""Options that say what a link, a photograph and the sites are like, as conditions.

It decides nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from isthmus.cli.units import bytes_per_s_from_text, parsed, pixels_from_text, seconds_from_text

if TYPE_CHECKING:
    from isthmus.loading.bundle import Bundle
    from isthmus.types.conditions import ImageFacts
    from isthmus.types.link import Link

__all__ = ["connection_from_option", "facts_from_options", "link_from_options"]


def link_from_options(
    opened: Bundle, *, uplink: str | None, downlink: str | None, rtt: str | None
) -> Link:
    """Return the link; what is given is taken as certain, the rest is as profiled.

    Raises:
        typer.BadParameter: If a text is no rate or no duration.
        BundleError: If something is not given and the bundle is not profiled.
    """
    from isthmus.types.link import Link

    up = parsed(bytes_per_s_from_text, uplink, "--uplink")
    down = parsed(bytes_per_s_from_text, downlink, "--downlink") or up
    rtt_s = parsed(seconds_from_text, rtt, "--rtt")
    if up is not None and down is not None and rtt_s is not None:
        return Link(up, down, rtt_s)
    link = opened.profiled_link()
    if up is not None:
        link = replace(link, uplink_bytes_per_s=up, uplink_sd_ratio=0.0)
    if down is not None:
        link = replace(link, downlink_bytes_per_s=down, downlink_sd_ratio=0.0)
    if rtt_s is not None:
        link = replace(link, rtt_s=rtt_s, rtt_sd_s=0.0)
    return link


def facts_from_options(
    opened: Bundle, *, image: Path | None, size: str | None, file_bytes: int | None
) -> ImageFacts:
    """Return the facts of the photograph, or of the bundle's photograph of median size.

    Raises:
        typer.BadParameter: If the options contradict each other.
        ImageError: If the photograph is none.
        BundleError: If none is named and the bundle has none.
    """
    from isthmus.errors import BundleError, ImageError
    from isthmus.runtime.image import read_facts
    from isthmus.types.conditions import ImageFacts

    if (size is None) != (file_bytes is None):
        raise typer.BadParameter("--size and --file-bytes go together", param_hint="--size")
    pixels = parsed(pixels_from_text, size, "--size")
    if pixels is not None and file_bytes is not None:
        if image is not None:
            raise typer.BadParameter("a photograph has its own size", param_hint="--size")
        return ImageFacts("jpeg", *pixels, file_bytes)
    if image is not None:
        try:
            return read_facts(image.read_bytes())
        except ImageError as error:
            raise ImageError(f"{image}: {error}") from error
    photographs = sorted(opened.photographs(), key=len)
    if not photographs:
        raise BundleError(f"{opened.path} has no photograph: say --image, or --size")
    return read_facts(photographs[len(photographs) // 2])


def connection_from_option(state: str) -> dict[str, Any]:
    """Return what a connection's state is as fields of the conditions.

    Raises:
        typer.BadParameter: If it is none of the three.
    """
    from isthmus.types.link import INITIAL_WINDOW_BYTES

    slow = {"window_bytes": float(INITIAL_WINDOW_BYTES)}
    states: dict[str, dict[str, Any]] = {
        "warm": {},
        "idle": slow,
        "new": slow | {"is_connected": False},
    }
    if state not in states:
        raise typer.BadParameter(
            f"{state!r} is none of {', '.join(states)}", param_hint="--connection"
        )
    return states[state]

"""Options that say what is asked of a decision, as rules. It decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.units import seconds_from_text
from isthmus.types.plan import MODES, Rules

__all__ = [
    "Deadline",
    "Fastest",
    "MaxSentBytes",
    "Mode",
    "NoPixelsLeave",
    "Variants",
    "check_variants",
    "rules_from_options",
]

_MODE_HELP = f"One of {', '.join(MODES)}."

Deadline = Annotated[
    str | None,
    typer.Option(help="When the answer is needed, e.g. 80ms: the most accurate plan in time."),
]
Variants = Annotated[list[str] | None, typer.Option(help="Use only this network; may be repeated.")]
NoPixelsLeave = Annotated[
    bool, typer.Option("--no-pixels-leave", help="Send no photograph, only inner tensors.")
]
Fastest = Annotated[
    bool,
    typer.Option(
        "--fastest",
        help="The least latency, of any network, instead of the most accurate network.",
    ),
]
Mode = Annotated[str, typer.Option(help=_MODE_HELP)]
MaxSentBytes = Annotated[
    int | None, typer.Option(min=0, help="No plan that sends more than so many bytes.")
]


def rules_from_options(
    *,
    deadline: str | None,
    variant: Sequence[str] | None,
    no_pixels_leave: bool,
    fastest: bool,
    mode: str,
    max_sent_bytes: int | None,
) -> Rules:
    """Return the rules that options ask for.

    Raises:
        typer.BadParameter: If one of them is malformed, or two contradict each other.
    """
    try:
        deadline_s = None if deadline is None else seconds_from_text(deadline)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--deadline") from error
    if fastest and deadline_s is not None:
        raise typer.BadParameter(
            "the fastest plan takes no deadline; choose one of the two", param_hint="--fastest"
        )
    if mode not in MODES:
        raise typer.BadParameter(f"no mode {mode!r}; {_MODE_HELP.lower()}", param_hint="--mode")
    return Rules(
        objective="least_latency" if fastest else "most_accurate",
        deadline_s=deadline_s,
        variants=frozenset(variant) if variant else None,
        no_pixels_leave=no_pixels_leave,
        mode=mode,
        max_sent_bytes=max_sent_bytes,
    )


def check_variants(rules: Rules, known: Collection[str], bundle: Path) -> None:
    """Refuse rules that name networks which a bundle does not have.

    Raises:
        typer.BadParameter: If there is one.
    """
    unknown = sorted((rules.variants or frozenset()) - set(known))
    if unknown:
        raise typer.BadParameter(
            f"no {unknown[0]} in {bundle}: it has {', '.join(known)}", param_hint="--variant"
        )

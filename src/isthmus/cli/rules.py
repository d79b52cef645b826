"""Options that say what is asked of a decision, as rules. It decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.units import ratio_from_text, seconds_from_text
from isthmus.types.plan import MODES, OBJECTIVES, Rules
from isthmus.types.power import ILLUSTRATIVE_POWER, Power

__all__ = [
    "Deadline",
    "Fastest",
    "HedgeAbove",
    "MaxSentBytes",
    "Mode",
    "NoPixelsLeave",
    "Objective",
    "PowerDrawn",
    "Variants",
    "check_variants",
    "rules_from_options",
]

_MODE_HELP = f"One of {', '.join(MODES)}."
_OBJECTIVE_HELP = f"One of {', '.join(OBJECTIVES)}."
_STATES = ("compute", "send", "wait", "receive")

Deadline = Annotated[
    str | None,
    typer.Option(help="When the answer is needed, e.g. 80ms: the best plan that is in time."),
]
Objective = Annotated[
    str | None,
    typer.Option(
        help="What the best plan is: most_accurate (unless you say otherwise), least_latency, "
        "least_energy of the device, or greatest_throughput of a stream of photographs."
    ),
]
PowerDrawn = Annotated[
    str | None,
    typer.Option(
        "--power",
        metavar="WATTS",
        help="What your device draws beyond its rest, e.g. "
        "compute=2.0,send=1.2,wait=0.2,receive=0.9; without it energies are illustrative.",
    ),
]
HedgeAbove = Annotated[
    str | None,
    typer.Option(
        "--hedge",
        metavar="PERCENT",
        help="With --deadline: where the server's answer is late as often as this, e.g. 5%, "
        "run a plan of the device's own beside it, as late as it can start.",
    ),
]
Variants = Annotated[list[str] | None, typer.Option(help="Use only this network; may be repeated.")]
NoPixelsLeave = Annotated[
    bool, typer.Option("--no-pixels-leave", help="Send no photograph, only inner tensors.")
]
Fastest = Annotated[
    bool,
    typer.Option(
        "--fastest",
        help="Short for --objective least_latency: the fastest plan, of any network.",
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
    objective: str | None = None,
    power: str | None = None,
    hedge: str | None = None,
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
    if objective is not None and objective not in OBJECTIVES:
        raise typer.BadParameter(
            f"no objective {objective!r}; {_OBJECTIVE_HELP.lower()}", param_hint="--objective"
        )
    if fastest and objective not in (None, "least_latency"):
        raise typer.BadParameter(
            f"--fastest is least_latency, and not {objective}", param_hint="--objective"
        )
    return Rules(
        objective="least_latency" if fastest else objective or "most_accurate",
        deadline_s=deadline_s,
        variants=frozenset(variant) if variant else None,
        no_pixels_leave=no_pixels_leave,
        mode=mode,
        max_sent_bytes=max_sent_bytes,
        power=ILLUSTRATIVE_POWER if power is None else _power(power),
        hedge_above_ratio=None if hedge is None else _hedge_above(hedge, deadline_s),
    )


def _power(text: str) -> Power:
    """Return what ``compute=2.0,send=1.2,...`` says.

    Raises:
        typer.BadParameter: If a state is missing, unknown or no number of watts.
    """
    watts = {}
    for part in text.split(","):
        state, _, value = part.partition("=")
        try:
            watts[state.strip()] = float(value)
        except ValueError as error:
            raise typer.BadParameter(f"{part!r} is no state=watts", param_hint="--power") from error
    if sorted(watts) != sorted(_STATES):
        raise typer.BadParameter(
            f"needs watts for each of {', '.join(_STATES)}, got {', '.join(watts)}",
            param_hint="--power",
        )
    try:
        return Power(
            compute_w=watts["compute"],
            send_w=watts["send"],
            wait_w=watts["wait"],
            receive_w=watts["receive"],
            source="given by --power",
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--power") from error


def _hedge_above(text: str, deadline_s: float | None) -> float:
    """Return what ``5%`` says.

    Raises:
        typer.BadParameter: If it is malformed, or there is no deadline.
    """
    if deadline_s is None:
        raise typer.BadParameter("nothing is late without a --deadline", param_hint="--hedge")
    try:
        return ratio_from_text(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--hedge") from error


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

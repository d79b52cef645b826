"""Options that say what is asked of a decision, as rules. It decides nothing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.units import parsed, ratio_from_text, seconds_from_text
from isthmus.types.plan import MODES, OBJECTIVES, Rules
from isthmus.types.power import ILLUSTRATIVE_POWER, Power

if TYPE_CHECKING:
    from isthmus.loading.bundle import Bundle

__all__ = ["bundle_for", "rules_from_options", "takes_rules"]

_MODE_HELP = f"One of {', '.join(MODES)}."
_OBJECTIVE_HELP = f"One of {', '.join(OBJECTIVES)}."
_STATES = ("compute", "send", "wait", "receive")


def takes_rules(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``rules_from_options`` where it takes ``rules``."""
    options = inspect.signature(rules_from_options, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        taken = options.values() if parameter.name == "rules" else [parameter]
        parameters += [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in taken]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        asked = {name: given.pop(name) for name in options}
        command(rules=rules_from_options(**asked), **given)

    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_options


def rules_from_options(
    *,
    deadline: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When the answer is needed, e.g. 80ms: the best plan in time."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Use only this network; may be repeated."),
    ] = None,
    no_pixels_leave: Annotated[
        bool, typer.Option("--no-pixels-leave", help="Send no photograph, only inner tensors.")
    ] = False,
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What the best plan is: most_accurate (unless you say otherwise), "
            "least_latency, least_energy of the device, or greatest_throughput of a stream of "
            "photographs.",
        ),
    ] = None,
    fastest: Annotated[
        bool,
        typer.Option(
            "--fastest",
            help="Short for --objective least_latency: the fastest plan, of any network.",
        ),
    ] = False,
    mode: Annotated[str, typer.Option(metavar="NAME", help=_MODE_HELP)] = "auto",
    max_sent_bytes: Annotated[
        int | None, typer.Option(min=0, metavar="BYTES", help="No plan that sends more than this.")
    ] = None,
    power: Annotated[
        str | None,
        typer.Option(
            metavar="WATTS",
            help="What your device draws beyond its rest, e.g. "
            "compute=2,send=1,wait=0,receive=1; without it energies are illustrative.",
        ),
    ] = None,
    hedge: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="With --deadline: where the server's answer is late as often as this, e.g. 5%, "
            "run a plan of the device's own beside it, as late as it can start.",
        ),
    ] = None,
    allow_other_pixels: Annotated[
        bool,
        typer.Option(
            "--allow-other-pixels",
            help="Have photographs decoded by the server even if it is known to make other "
            "pixels of them than the device.",
        ),
    ] = False,
) -> Rules:
    """Return the rules that options ask for.

    Raises:
        typer.BadParameter: If one of them is malformed, or two contradict each other.
    """
    deadline_s = parsed(seconds_from_text, deadline, "--deadline")
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
    if hedge is not None and deadline_s is None:
        raise typer.BadParameter("nothing is late without a --deadline", param_hint="--hedge")
    return Rules(
        objective="least_latency" if fastest else objective or "most_accurate",
        deadline_s=deadline_s,
        variants=frozenset(variant) if variant else None,
        no_pixels_leave=no_pixels_leave,
        mode=mode,
        max_sent_bytes=max_sent_bytes,
        power=ILLUSTRATIVE_POWER if power is None else _power(power),
        hedge_above_ratio=parsed(ratio_from_text, hedge, "--hedge"),
        allow_other_pixels=allow_other_pixels,
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


def bundle_for(rules: Rules, path: Path) -> Bundle:
    """Open the bundle that rules are about.

    Raises:
        BundleError: If there is none.
        typer.BadParameter: If the rules name a network that it does not have.
    """
    from isthmus.loading.bundle import open_bundle

    bundle = open_bundle(path)
    unknown = sorted((rules.variants or frozenset()) - bundle.variants.keys())
    if unknown:
        raise typer.BadParameter(
            f"no {unknown[0]} in {path}: it has {', '.join(bundle.variants)}",
            param_hint="--variant",
        )
    return bundle

"""``isthmus profiles``: what is kept of earlier profiles. It parses, calls and prints."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isthmus.cli.output import JsonTarget, console, write_json

if TYPE_CHECKING:
    from isthmus.profiling.store import Key, ProfileStore

__all__ = ["command"]

_DAY_S = 86400.0

command = typer.Typer(
    help="List, export, import or forget what `isthmus profile` has measured.",
    no_args_is_help=True,
)

StoreFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The store; by default a file in your data folder, or what $ISTHMUS_PROFILES names.",
    ),
]


def _opened(path: Path | None, *, is_made: bool = False) -> ProfileStore:
    """Open the store.

    Args:
        path: Its file; ``None`` for the user's.
        is_made: Whether it is made if there is none; else that is an error.
    """
    from isthmus.errors import StoreError
    from isthmus.profiling.store import ProfileStore, default_path

    path = path or default_path()
    if not is_made and not path.exists():
        raise StoreError(
            f"{path}: nothing is kept there yet; `isthmus profile` keeps what it finds"
        )
    return ProfileStore(path)


@command.command("list")
def list_profiles(
    store: StoreFile = None,
    json_target: JsonTarget = None,
) -> None:
    """List what was measured: of which networks, on which device, with which server, when.

    Example: isthmus profiles list
    """
    with _opened(store) as opened:
        found = opened.stored()
    if json_target is not None:
        write_json(
            [{**vars(one.key), "measured_at_s": one.measured_at_s} for one in found], json_target
        )
        return
    groups: dict[str, dict[str, list[float]]] = {}
    for one in found:
        times = groups.setdefault(_where(one.key), {})
        times.setdefault(one.key.graph_sha256[:12], []).append(one.measured_at_s)
    out = console()
    out.print(f"{opened.path}: {len(found)} measurements", markup=False, soft_wrap=True)
    for where, networks in groups.items():
        out.print(f"\n{where}", style="bold", markup=False, soft_wrap=True)
        for network, times_s in networks.items():
            last = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times_s)))
            out.print(f"  network {network}  {len(times_s):>4} parts  {last}")


def _where(key: Key) -> str:
    """Say on which device, with which server, by which versions and how something was measured."""
    sites = []
    if key.device:
        threads = f"{key.threads} thread{'' if key.threads == 1 else 's'}"
        slowed = f", slowed {key.pace:g} times" if key.pace != 1 else ""
        sites.append(f"on {key.device} ({key.runtime}, {threads}{slowed})")
    if key.server:
        there = f" ({key.server_runtime})" if key.server_runtime else ""
        sites.append(f"with {key.server}{there}")
    return ", ".join(sites)


@command.command("export")
def export_profiles(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The JSON file to write; - prints.")],
    store: StoreFile = None,
) -> None:
    """Write all measurements as JSON, to be imported elsewhere.

    Example: isthmus profiles export kiosk.json
    """
    with _opened(store) as opened:
        exported = opened.exported()
    write_json(exported, file)
    count = len(exported["measurements"])
    console(stderr=file == "-").print(
        f"{count} measurements exported from {opened.path}", markup=False, soft_wrap=True
    )


@command.command("import")
def import_profiles(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="That `isthmus profiles export` wrote.")
    ],
    as_this_device: Annotated[
        bool,
        typer.Option(
            "--as-this-device",
            help="They were made on a device of the same kind: use them as this one's own.",
        ),
    ] = False,
    store: StoreFile = None,
) -> None:
    """Take measurements from another store; of two of the same thing the later one stays.

    Example: isthmus profiles import kiosk.json --as-this-device
    """
    from isthmus.errors import StoreError

    try:
        exported = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is no JSON: {error}") from error
    with _opened(store, is_made=True) as opened:
        taken, known = opened.import_json(
            exported, device=platform.node() if as_this_device else None
        )
    console().print(
        f"{taken} measurements taken into {opened.path}, {known} older than what is known",
        markup=False,
        soft_wrap=True,
    )


@command.command("forget")
def forget_profiles(
    network: Annotated[
        str | None,
        typer.Option(
            metavar="SHA256", help="Of this network: the beginning of its file's SHA-256."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Made on the device of this name.")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Made with a server whose address has this in it."),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Older than these days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there is.")] = False,
    store: StoreFile = None,
) -> None:
    """Forget measurements: those that fit every option given, or all.

    Example: isthmus profiles forget --older-than 90
    """
    wishes = (network, device, server, older_than)
    if everything == any(wish is not None for wish in wishes):
        raise typer.BadParameter("say which with the options, or --all for all of them")
    before_s = None if older_than is None else time.time() - older_than * _DAY_S
    with _opened(store) as opened:
        keys = [
            one.key
            for one in opened.stored()
            if (network is None or one.key.graph_sha256.startswith(network.lower()))
            and (device is None or one.key.device == device)
            and (server is None or server in one.key.server)
            and (before_s is None or one.measured_at_s < before_s)
        ]
        count = opened.forget(keys)
    console().print(
        f"{count} measurements forgotten from {opened.path}", markup=False, soft_wrap=True
    )

"""``isthmus serve``: the edge server on the command line. It parses, calls and prints."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli.units import parsed, seconds_from_text

__all__ = ["command"]


def command(
    models_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODELS_DIR", help="Folder with NAME/VERSION/model.onnx or NAME.onnx in it."
        ),
    ],
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="To listen on; 0.0.0.0 for all.", show_default="127.0.0.1"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            metavar="PORT",
            help="TCP port; 0 picks a free one.",
            show_default="8000",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Threads of one inference.", show_default="all processors"
        ),
    ] = None,
    max_body_mib: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=4096, metavar="MIB", help="Largest request.", show_default="64"
        ),
    ] = None,
    max_bodies_mib: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=65536,
            metavar="MIB",
            help="All requests together until answered; one that goes beyond is refused.",
            show_default="256",
        ),
    ] = None,
    max_connections: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1_000_000,
            metavar="N",
            help="Connections at once; one more takes the place of the one idle for longest.",
            show_default="1024",
        ),
    ] = None,
    client_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long to wait for a request's head, for 64 KiB more of its body, and until "
            "its answer is taken.",
            show_default="20s",
        ),
    ] = None,
    max_image_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=128_000_000,
            metavar="PIXELS",
            help="Largest photograph, pixels (width x height).",
            show_default="128000000",
        ),
    ] = None,
) -> None:
    """On the edge server: offer the networks of a folder to devices on the network.

    Speaks the Open Inference Protocol v2 (REST, binary tensors), so any of its
    clients can ask. Beside each network NAME it offers NAME.image, which takes a
    photograph file, and the tails of it that devices ask for. Options not given
    are taken from ISTHMUS_HOST, ISTHMUS_PORT, ISTHMUS_THREADS, ISTHMUS_MAX_BODY_MIB,
    ISTHMUS_MAX_BODIES_MIB, ISTHMUS_MAX_CONNECTIONS, ISTHMUS_CLIENT_TIMEOUT_S (seconds),
    ISTHMUS_MAX_IMAGE_PIXELS.

    Only programs on this machine reach it unless --host says otherwise. It has no
    passwords: open it to networks that you trust only. Ctrl-C ends it after the
    requests that are running.

    Example: isthmus serve models/ --host 0.0.0.0
    """
    from pydantic import ValidationError

    from isthmus.cli.progress import progress_bars
    from isthmus.edge.server import serve
    from isthmus.edge.settings import Settings

    options = {
        "host": host,
        "port": port,
        "threads": threads,
        "max_body_mib": max_body_mib,
        "max_bodies_mib": max_bodies_mib,
        "max_connections": max_connections,
        "client_timeout_s": parsed(seconds_from_text, client_timeout, "--client-timeout"),
        "max_image_pixels": max_image_pixels,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        settings = Settings(models_dir=models_dir, **given)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise typer.BadParameter(where + first["msg"].removeprefix("Value error, ")) from error

    with ExitStack() as showing:

        def tell(address: str, models: int) -> None:
            showing.close()  # the bars are full
            noun = "model" if models == 1 else "models"
            print(f"isthmus serve: ready on {address}, {models} {noun}", flush=True)

        serve(settings, progress=showing.enter_context(progress_bars()), on_ready=tell)

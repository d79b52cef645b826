"""``isthmus study``: experiments that compare methods side by side, a module each. It runs none."""

from __future__ import annotations

import typer

from isthmus.cli import (
    study_beds,
    study_latency,
    study_pieslicer,
    study_qdmp,
    study_recovery,
    study_transfer,
)

__all__ = ["command"]

command = typer.Typer(help="Run an experiment that compares methods.", no_args_is_help=True)
command.command("beds")(study_beds.command)
command.command("latency")(study_latency.command)
command.command("pieslicer")(study_pieslicer.command)
command.command("qdmp")(study_qdmp.command)
command.command("recovery")(study_recovery.command)
command.command("transfer")(study_transfer.command)


@command.callback()
def studies() -> None:
    """Run an experiment that compares methods."""

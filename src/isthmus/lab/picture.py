"""Save a figure as a picture that says what it shows. It draws nothing."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import Any

from isthmus.loading.files import new_file

__all__ = ["save_picture"]


def save_picture(figure: Any, target: Path, *, title: str, description: str) -> None:
    """Save a matplotlib figure; the same figure gives the same file.

    Args:
        figure: The figure.
        target: File to write; its suffix tells the format (``.svg``, ``.png``).
        title: What it shows, in a few words; kept in SVG files.
        description: The same in a sentence or two, for who cannot see it.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    if target.suffix == ".svg":
        with mpl.rc_context({"svg.hashsalt": "isthmus"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        told = f"<title>{escape(title)}</title>\n <desc>{escape(description)}</desc>\n <defs>"
        drawn = buffer.getvalue().replace(b"<defs>", told.encode(), 1)
    else:
        figure.savefig(buffer, format=target.suffix.removeprefix("."), dpi=150)
        drawn = buffer.getvalue()
    with new_file(target) as file:
        file.write(drawn)

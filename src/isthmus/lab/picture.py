"""Save a figure as a picture that says what it shows. It draws nothing."""

from __future__ import annotations

import io
from html import escape
from pathlib import Path
from typing import Any

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

    if target.suffix != ".svg":
        figure.savefig(target, dpi=150)
        return
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "isthmus"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    told = f"<title>{escape(title)}</title>\n <desc>{escape(description)}</desc>\n <defs>"
    target.write_text(buffer.getvalue().replace("<defs>", told, 1), encoding="utf-8")

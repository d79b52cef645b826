"""Tables of named rows that lose nothing in a narrow terminal. It formats no figures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

__all__ = ["print_rows"]

_GAP = "   "


def print_rows(
    out: Console, headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = ""
) -> None:
    """Print rows of a name and its figures, aligned.

    Where a row does not fit, the name has a line above its figures; where these do not fit
    either, each figure has a line with its heading.

    Args:
        out: Where to.
        headings: One for each column, the names' first.
        rows: The cells of each row, as many.
        title: Stands above; may be empty.
    """
    table = [headings, *rows]
    widths = [max(cell_len(row[column]) for row in table) for column in range(len(headings))]
    figures_width = sum(widths[1:]) + len(_GAP) * (len(widths) - 2)
    if widths[0] + len(_GAP) + figures_width <= out.width:
        names = [set_cell_size(row[0], widths[0]) + _GAP for row in table]
        lines = [
            (name + _figures(row, widths)).rstrip() for name, row in zip(names, table, strict=True)
        ]
    elif len(_GAP) + figures_width <= out.width:
        lines = [f"{row[0]}\n{_GAP}{_figures(row, widths)}" for row in table]
    else:
        width = max(map(cell_len, headings[1:]))
        lines = [headings[0]]
        for name, *figures in rows:
            told = zip(headings[1:], figures, strict=True)
            lines.append("\n".join([name, *(f"{_GAP}{h:<{width}}{_GAP}{f}" for h, f in told)]))
    if title:
        out.print(Text(f"\n{title}", style="italic"))
    rule = "─" * min(out.width, max(map(cell_len, "\n".join(lines).split("\n"))))
    out.print(Text(("" if title else "\n") + lines[0], style="bold"), soft_wrap=True)
    out.print(Text("\n".join([rule, *lines[1:]])), soft_wrap=True)


def _figures(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = zip(row[1:], widths[1:], strict=True)
    return _GAP.join(text.rjust(width) for text, width in cells).rstrip()

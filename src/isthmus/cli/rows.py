"""Tables of named rows; where the terminal is narrow, a name has a line above its figures.

It formats no figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

__all__ = ["print_rows"]

_GAP = "   "


def print_rows(out: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of a name and its figures, all as wide as the widest.

    Args:
        out: Where to.
        headings: One for each column, the names' first.
        rows: The cells of each row, as many; the figures are set to the right.
    """
    table = [headings, *rows]
    widths = [max(cell_len(row[column]) for row in table) for column in range(len(headings))]
    is_narrow = sum(widths) + len(_GAP) * (len(widths) - 1) > out.width
    lines = []
    for name, *figures in table:
        shown = _GAP.join(
            text.rjust(width) for text, width in zip(figures, widths[1:], strict=True)
        )
        lines.append(
            f"{name}\n{_GAP}{shown}"
            if is_narrow
            else f"{set_cell_size(name, widths[0])}{_GAP}{shown}"
        )
    head, *body = lines
    rule = "─" * min(out.width, max(cell_len(line) for line in head.split("\n")))
    out.print(Text(f"\n{head}", style="bold"), soft_wrap=True)
    out.print(Text("\n".join([rule, *body])), soft_wrap=True)

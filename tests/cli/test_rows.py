"""Tables keep their names, however narrow the terminal."""

import io

import pytest
from rich.console import Console

from isthmus.cli.rows import print_rows

HEADINGS = ("network", "time", "sent")
ROWS = [("small", "9.5 ms", "0"), ("efficientnet split /a [u8]", "12.5 ms", "1.3")]


def printed(width, headings=HEADINGS, rows=ROWS):
    out = Console(file=io.StringIO(), width=width)
    print_rows(out, headings, rows)
    return out.file.getvalue().split("\n")[1:-1]


@pytest.mark.parametrize("width", [43, 200])
def test_a_row_is_a_line_where_there_is_room(width):
    assert printed(width) == [
        "network                         time   sent",
        "───────────────────────────────────────────",
        "small                         9.5 ms      0",
        "efficientnet split /a [u8]   12.5 ms    1.3",
    ]


@pytest.mark.parametrize("width", [42, 17])
def test_a_name_has_a_line_of_its_own_where_there_is_not(width):
    assert printed(width) == [
        "network",
        "      time   sent",
        "─" * min(width, len(ROWS[1][0])),
        "small",
        "    9.5 ms      0",
        "efficientnet split /a [u8]",
        "   12.5 ms    1.3",
    ]


def test_each_figure_has_a_line_where_figures_do_not_fit_either():
    assert printed(16) == [
        "network",
        "────────────────",
        "small",
        "   time   9.5 ms",
        "   sent   0",
        "efficientnet split /a [u8]",
        "   time   12.5 ms",
        "   sent   1.3",
    ]


def test_a_title_stands_above():
    out = Console(file=io.StringIO(), width=80)
    print_rows(out, HEADINGS, ROWS, title="Times [ms]")
    assert out.file.getvalue().split("\n")[:3] == [
        "",
        "Times [ms]",
        "network                         time   sent",
    ]


def test_a_table_without_rows_is_its_headings():
    assert printed(80, rows=[])[0] == "network   time   sent"

import io

import pytest
from rich.console import Console

from isthmus.cli import progress
from isthmus.cli.progress import progress_bars


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 120 columns that remembers what it shows."""
    made = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(progress, "console", lambda **_: made)
    return made.file


def shown(screen):
    """The lines with bars, the last ones as they were left."""
    return [line for line in screen.getvalue().splitlines() if "━" in line]


def test_each_task_has_a_bar_and_the_ones_before_are_full(screen):
    with progress_bars() as bars:
        bars.begin("first", 3)
        bars.advance("a step")
        bars.begin("second", 2)
        bars.advance("one")
        bars.advance("two")
    last = shown(screen)[-2:]
    assert "first" in last[0]
    assert "3/3" in last[0]
    assert "second" in last[1]
    assert "2/2" in last[1]
    assert "two" in last[1]


def test_a_task_without_steps_is_shown_too(screen):
    with progress_bars() as bars:
        bars.begin("nothing to do", 0)
        bars.begin("more", 1)
    assert "nothing to do" in screen.getvalue()


@pytest.mark.parametrize("name", ["[bold]", "[/red]", "photo[1]", "a[/]b", "x]["])
def test_names_are_shown_as_they_are(screen, name):
    with progress_bars() as bars:
        bars.begin(name, 1)
        bars.advance(name)
    assert shown(screen)[-1].count(name) == 2


def test_steps_before_any_task_are_ignored(screen):
    with progress_bars() as bars:
        bars.advance("early")
    assert "early" not in screen.getvalue()


def test_nothing_is_shown_where_nobody_looks(capsys):
    with progress_bars() as bars:
        bars.begin("task", 1)
        bars.advance("step")
    assert capsys.readouterr() == ("", "")


def test_long_details_take_no_room_from_bars_and_times(monkeypatch):
    made = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(progress, "console", lambda **_: made)
    with progress_bars() as bars:
        bars.begin("input pipeline", 3)
        bars.advance("short")
        bars.advance("a photograph of 4096 x 3328 pixels for efficientnet-lite0")
    last = shown(made.file)[-1].removeprefix("\x1b[2K").rstrip()
    assert len(last) == 80
    assert last.index("2/3") == len("input pipeline    ") + 1 + 20 + 1  # a bar of 20 before it
    assert last[40:].count("…") == 1
    assert last.endswith("…")

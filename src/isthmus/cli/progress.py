"""Progress bars on the terminal, for work that tells its steps. It shows nothing when piped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from isthmus.cli.output import console

__all__ = ["progress_bars"]

_BAR_WIDTH = 20


class _Bars:
    """One bar a task, the finished ones above."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, task: str, steps: int) -> None:
        """Add a bar; the one before is filled. The first makes them appear."""
        self._bars.start()
        self._fill()
        self._task = self._bars.add_task(task, total=steps, detail="")

    def advance(self, detail: str = "") -> None:
        """Move the bar one step on."""
        if self._task is not None:
            self._bars.update(self._task, advance=1, detail=detail)

    def _fill(self) -> None:
        if self._task is not None:
            total = self._bars.tasks[self._bars.task_ids.index(self._task)].total
            self._bars.update(self._task, completed=total, detail="")


@contextmanager
def progress_bars() -> Iterator[_Bars]:
    """Show bars on standard error, if it is a terminal, while the block runs."""
    errors = console(stderr=True)
    bars = Progress(
        TextColumn("{task.description:<18}", markup=False),
        BarColumn(bar_width=_BAR_WIDTH),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn(
            "{task.fields[detail]}",
            style="dim",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        console=errors,
        expand=True,  # so that what is told beside a bar takes no room from it
        disable=not errors.is_terminal,
    )
    try:
        yield _Bars(bars)
    finally:
        if bars.live.is_started:
            bars.stop()

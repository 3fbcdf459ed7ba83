"""How far the work of a command has come: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from foundation.terminal import Terminal

BETWEEN_LINES = 15.0  # seconds


@contextmanager
def progress_shown(console: Console | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of several kinds of work; what it gives is called with kind, done, total.

    On a terminal a bar each. Elsewhere a line at the first report, one every 15 seconds, and one at
    the end.
    """
    console = Terminal(stderr=True) if console is None else console
    if not console.is_terminal:
        lines = Lines(console)
        yield lines.tell
        lines.end()
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, _Rate(), TimeRemainingColumn(), console=console) as bars:

        def tell(work: str, done: int, total: int) -> None:
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=total)
            bars.update(tasks[work], completed=done)

        yield tell


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """The rate as 1,234/s."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Lines:
    """Plain lines, for a file or a pipe.

    clock: seconds that only increase.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = self._last = clock()
        self._work: dict[str, tuple[int, int]] = {}

    def tell(self, work: str, done: int, total: int) -> None:
        """Note how far a kind of work is; it is written where the last line is 15 seconds old."""
        due = not self._work or self._clock() - self._last >= BETWEEN_LINES
        self._work[work] = (done, total)
        if due:
            self._write("")

    def end(self) -> None:
        """Write what was done; an error has its own line instead."""
        if self._work:
            self._write("done, ")

    def _write(self, prefix: str) -> None:
        self._last = self._clock()
        parts = [f"{work} {done:,} of {total:,}" for work, (done, total) in self._work.items()]
        line = f"{prefix}{self._last - self._began:.0f} s: {'; '.join(parts)}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

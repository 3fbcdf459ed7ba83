"""The terminal, and the progress of a command.

Text from outside is printed as text, never as markup or a control sequence.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, RenderableType
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

from foundation.errors import shown

WIDTH = 160  # characters of a line where there is no terminal
BETWEEN_LINES = 15.0  # seconds


class Terminal(Console):
    """Standard output, without markup: `[/x]` in a name stands there as `[/x]`."""

    def __init__(self, width: int | None = None, **options: Any) -> None:
        super().__init__(width=width, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)


def terminal(stream: IO[str] | None = None, **options: Any) -> Terminal:
    """Where a command prints: as wide as the terminal, or `WIDTH` where there is none.

    stream: standard output unless it is given; options: of rich's console.
    """
    on_terminal = (stream or sys.stdout).isatty()
    return Terminal(None if on_terminal else WIDTH, file=stream, **options)


def show_parts(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print tables and lines; off a terminal lines stay whole, on it they break between words."""
    for part in parts:
        is_line = isinstance(part, str) and not console.is_terminal
        console.print(part, highlight=False, soft_wrap=is_line)


class LoopTerminal(Terminal):
    """A terminal whose reader may be gone: output is lost and the loop continues."""

    def on_broken_pipe(self) -> None:
        """Raise an error that `printing` takes for a lost line."""
        raise BrokenPipeError("the reader of standard output is gone")


@contextmanager
def progress_shown(console: Console | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of several kinds of work; yields a function of kind, done and total.

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

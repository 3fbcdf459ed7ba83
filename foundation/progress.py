"""How far the work of a command has come: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

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

from foundation.activity import compilation_told, current_activity
from foundation.terminal import Terminal

BETWEEN_LINES = 15.0  # seconds


@contextmanager
def progress_shown(console: Console | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of several kinds of work; what it gives is called with kind, done, total.

    On a terminal a bar each. Elsewhere a line at the start, one every 15 seconds, and one at the
    end; work of less than that which reports nothing has no line. Either says beside them what is
    being done that counts nothing, as a function that is compiled.
    """
    console = Terminal(stderr=True) if console is None else console
    display = Bars(console) if console.is_terminal else Lines(console)
    finished = False
    with compilation_told() as compilation:

        def told(work: str, done: int, total: int) -> None:
            compilation.over()
            display.tell(work, done, total)

        display.start()
        try:
            yield told
            finished = True
        finally:
            display.end(finished=finished)


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """The rate as 1,234/s."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class _BarsAndActivity(Progress):
    """Bars, and below them what is being done that counts nothing."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, and a line where there is one."""
        yield from super().get_renderables()
        if doing := current_activity():
            yield Text(f"{doing} …")


class Bars:
    """A bar for each kind of work; one that only moves until the first is known."""

    def __init__(self, console: Console) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._waiting: TaskID | None = None
        self._progress = _BarsAndActivity(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
        )

    def start(self) -> None:
        self._waiting = self._progress.add_task("working", total=None)
        self._progress.start()

    def tell(self, work: str, done: int, total: int) -> None:
        """Move the bar of a kind of work."""
        self._end_waiting()
        if work not in self._tasks:
            self._tasks[work] = self._progress.add_task(work, total=total)
        self._progress.update(self._tasks[work], completed=done)

    def end(self, *, finished: bool) -> None:
        """Leave the bars as they are."""
        del finished
        self._end_waiting()
        self._progress.stop()

    def _end_waiting(self) -> None:
        if self._waiting is not None:
            self._progress.remove_task(self._waiting)
            self._waiting = None


class Lines:
    """Plain lines, for a file or a pipe.

    clock: seconds that only increase.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = self._last = clock()
        self._work: dict[str, tuple[int, int]] = {}
        # Work that reports nothing for long has its lines too: a thread writes those.
        self._lock = threading.Lock()
        self._over = threading.Event()

    def start(self) -> None:
        self._began = self._last = self._clock()
        threading.Thread(target=self._write_on, daemon=True).start()

    def tell(self, work: str, done: int, total: int) -> None:
        """Note how far a kind of work is; the first of all is written at once."""
        with self._lock:
            first = not self._work
            self._work[work] = (done, total)
            if first:
                self._write("")
        self.write_if_due()

    def end(self, *, finished: bool) -> None:
        """Write what was done, unless it ended in an error, which has its own line."""
        self._over.set()
        with self._lock:
            if finished and self._work:
                self._write("done, ")

    def write_if_due(self) -> None:
        """Write a line where the last is 15 seconds old."""
        with self._lock:
            if not self._over.is_set() and self._clock() - self._last >= BETWEEN_LINES:
                self._write("")

    def _write_on(self) -> None:
        while not self._over.wait(max(self._last + BETWEEN_LINES - self._clock(), 0.1)):
            self.write_if_due()

    def _write(self, prefix: str) -> None:
        self._last = self._clock()
        parts = [f"{work} {done:,} of {total:,}" for work, (done, total) in self._work.items()]
        if not prefix and (doing := current_activity()):
            parts.append(doing)
        line = f"{prefix}{self._last - self._began:.0f} s: {'; '.join(parts) or 'working'}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

"""The terminal, the progress display of a command, and the log file of a run.

Text from outside is printed literally, never as markup or a control sequence.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from threading import Event, Lock
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

from foundation.errors import InputError, escape_controls
from foundation.files import restrict_to_owner
from foundation.threads import run_in_background

log = logging.getLogger(__name__)

DEFAULT_WIDTH = 160  # characters per line without a terminal
PROGRESS_INTERVAL_SECONDS = 2.0  # seconds
LOG_FOLDER = Path("logs")


class Terminal(Console):
    """A rich console that prints markup literally: a name with `[/x]` prints as `[/x]`."""

    def __init__(self, width: int | None = None, **options: Any) -> None:
        super().__init__(width=width, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape_controls(text), **options)


def open_terminal(stream: IO[str] | None = None, **options: Any) -> Terminal:
    """Return a console as wide as its terminal, or of `DEFAULT_WIDTH` without a terminal.

    stream: output stream; None: standard output.
    options: options of `rich.console.Console`.
    """
    # A process can be started without a standard output; then nothing is printed.
    out = stream or sys.stdout
    on_terminal = out is not None and out.isatty()
    return Terminal(None if on_terminal else DEFAULT_WIDTH, file=stream, **options)


def print_renderables(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print tables and text lines; long lines are wrapped, between words, on a terminal only."""
    for part in parts:
        is_line = isinstance(part, str) and not console.is_terminal
        console.print(part, highlight=False, soft_wrap=is_line)


class PipeTolerantTerminal(Terminal):
    """A terminal that does not exit on a broken pipe, so that a loop survives a closed output."""

    def on_broken_pipe(self) -> None:
        """Raise an error instead of exiting; `tolerate_print_errors` logs it as lost output."""
        raise BrokenPipeError("standard output is closed")


@contextmanager
def show_progress(console: Console | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of several tasks; yield a callback of task name, units done and total.

    A terminal that can redraw lines shows one progress bar per task. Other outputs, such as
    TERM=dumb, get a line at the first report and a line at the end. In between they get a line
    every two seconds, even without new reports.
    """
    console = Terminal(stderr=True) if console is None else console
    if not console.is_interactive:
        lines = ProgressLines(console)
        ended = Event()

        def write_periodically() -> None:
            while not ended.wait(PROGRESS_INTERVAL_SECONDS):
                lines.write_if_due()

        with run_in_background(write_periodically, ended.set):
            yield lines.report
        lines.write_final_counts()
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, _RateColumn(), TimeRemainingColumn(), console=console) as bars:

        def update_task(work: str, done: int, total: int) -> None:
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=total)
            bars.update(tasks[work], completed=done)

        yield update_task


class _RateColumn(ProgressColumn):
    """A progress column that shows how many units of a task are done per second."""

    def render(self, task: Task) -> Text:
        """Return the rate as 1,234/s."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class ProgressLines:
    """Progress as plain text lines, for a file or a pipe.

    console: output of the lines.
    clock: function that returns monotonic seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = self._last = clock()
        self._work: dict[str, tuple[int, int]] = {}
        self._lock = Lock()

    def report(self, task: str, done: int, total: int) -> None:
        """Record the progress of a task; write a line if the last line is two seconds old."""
        with self._lock:
            first = not self._work
            self._work[task] = (done, total)
            if first or self._is_due():
                self._write_line("")

    def write_if_due(self) -> None:
        """Write the progress if the last line is two seconds old."""
        with self._lock:
            if self._is_due():
                self._write_line("")

    def write_final_counts(self) -> None:
        """Write the final counts; after an error, callers print the error instead."""
        with self._lock:
            if self._work:
                self._write_line("done, ")

    def _is_due(self) -> bool:
        return self._clock() - self._last >= PROGRESS_INTERVAL_SECONDS

    def _write_line(self, prefix: str) -> None:
        self._last = self._clock()
        parts = [f"{work} {done:,} of {total:,}" for work, (done, total) in self._work.items()]
        words = "; ".join(parts) or "starting"
        line = f"{prefix}{self._last - self._began:.0f} s: {words}"
        with suppress(OSError):  # a full disk must not stop the work
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def log_to_file(name: str, links: Sequence[str] = ()) -> None:
    """Write log lines and warnings of libraries to this run's file in `logs/`, not to the screen.

    Only the owner may read the file. Raises `InputError` if `logs` is a file.

    links: names in `logs/`, without the suffix, of links to this file, created with its first line.
        A later run redirects the links.
    """
    if LOG_FOLDER.exists() and not LOG_FOLDER.is_dir():
        raise InputError(
            f"{LOG_FOLDER}: is a file, but log files need a folder of this name; move the file"
        )
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    handler = _RunLogHandler(
        LOG_FOLDER / f"{name}-{stamp}-{os.getpid()}.log", delay=True, links=links
    )
    handler.setFormatter(EscapingFormatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    for earlier in root.handlers:
        if isinstance(earlier, _RunLogHandler):
            earlier.close()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    if LOG_FOLDER.is_dir():
        restrict_to_owner(LOG_FOLDER)


@contextmanager
def tolerate_print_errors() -> Iterator[None]:
    """Log output errors within the block instead of raising them.

    Thus a full disk or a closed terminal does not end a loop.
    """
    try:
        yield
        # `sys.stdout` is None in a process that was started without standard output.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        log.warning("output could not be printed: %s", error.strerror or error)


@cache
def print_warning_once(line: str) -> None:
    """Log a line and print it on standard error, once per process."""
    log.warning(line)
    with tolerate_print_errors():
        sys.stderr.write(f"{line}\n")


class EscapingFormatter(logging.Formatter):
    """A formatter that escapes control characters in log lines."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_controls(super().format(record))


class _RunLogHandler(logging.FileHandler):
    """A log file that is created, with its folder, when the first line is written.

    path: path of the file.
    links: names of links to the file, without the suffix.
    """

    def __init__(self, path: Path, *, delay: bool, links: Sequence[str] = ()) -> None:
        super().__init__(path, delay=delay)
        self._links = links
        self._is_closed = False

    def close(self) -> None:
        """Close the file for good: later lines of running threads do not reopen it."""
        self._is_closed = True
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. Report a write error on standard error instead of raising it."""
        if self._is_closed:
            return
        try:
            super().emit(record)
        except OSError as error:
            # Logging the error would call this method again.
            with suppress(OSError):
                sys.stderr.write(f"{self.baseFilename}: log cannot be written: {error.strerror}\n")

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        for name in self._links:
            _link_to_log(path, path.with_name(f"{name}.log"))
        return open(path, "a", encoding=self.encoding, opener=_open_owner_only)


def _link_to_log(file: Path, link: Path) -> None:
    """Point a relative link at a log file; an existing file with the link's name is renamed.

    The link is replaced atomically. A link that cannot be created is reported on standard error,
    and the log is written without it.
    """
    staged = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        if link.exists() and not link.is_symlink():
            with suppress(FileNotFoundError):  # another process has renamed it
                link.rename(file.with_name(f"{link.stem}-before-{file.name}"))
        staged.unlink(missing_ok=True)
        staged.symlink_to(file.name)
        staged.replace(link)
    except OSError as error:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
            sys.stderr.write(
                f"{link}: link to {file.name} cannot be created: {error.strerror or error}\n"
            )


def _open_owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

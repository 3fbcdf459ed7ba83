"""What the command lines share: one-line errors, flags, the log file, progress."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

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

from foundation.errors import InputError

_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w.@/]*=")


def fail(error: Exception) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """Flags whose refusals are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """End with the line."""
        fail(InputError(f"{message} (see --help)"))

    def refuse_others(self, words: Iterable[str]) -> None:
        """End with a line at the first word that is no key=value."""
        for word in words:
            if not is_override(word):
                self.error(f"{word!r} is no flag and no key=value")


def is_override(word: str) -> bool:
    """Whether a word is a Hydra override, key=value."""
    return bool(_OVERRIDE.match(word))


def overrides_of_flags(flags: Mapping[str, Any]) -> list[str]:
    """Hydra overrides for values by key, as its grammar reads them literally; none for None and
    for empty lists.
    """
    return [
        f"{key}=[{','.join(map(_quoted, value))}]"
        if isinstance(value, list)
        else f"{key}={_quoted(str(value))}"
        for key, value in flags.items()
        if value is not None and value != []
    ]


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@contextmanager
def one_line(interrupted: str) -> Iterator[list[Path]]:
    """What a user can mend ends with one line and exit code 2, an interruption with `interrupted`
    and exit code 130.

    Folders put into the list are removed then, if nothing is in them.
    """
    made: list[Path] = []
    try:
        yield made
    except InputError as error:
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        fail(error)
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)  # noqa: T201
        sys.exit(130)


def log_to_file(name: str) -> None:
    """Send every log line to a file of this run in `logs/`; libraries' warnings too, not to the
    screen.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    handler = _RunLog(Path("logs") / f"{name}-{stamp}-{os.getpid()}.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


class _RunLog(logging.FileHandler):
    """A log file that exists, folder and all, from its first line on."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """1,234/s."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class ProgressBar:
    """Progress on the terminal, a line a kind of work; called with what, done and total."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tasks:
            self._display.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are finished."""
        if what not in self._tasks:
            self._display.start()
            self._tasks[what] = self._display.add_task(what, total=total)
        self._display.update(self._tasks[what], completed=done)

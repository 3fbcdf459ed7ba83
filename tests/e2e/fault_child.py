"""A live command as a process of the fault tests: hurried, and killed at a chosen commit.

    fault_child.py CONTROL LIMITS -m MODULE … | SCRIPT …

Waits are short, see `hurried.py`. CONTROL is a file of `Control` that the driver shares. LIMITS is
JSON: `pages`, by which journals may grow, and `bytes`, beyond which no file may.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import mmap
import os
import resource
import runpy
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

COUNTDOWN, AFTER, COMMITS, AHEAD = range(4)


class Control:
    """Numbers in a file that a process and its driver share.

    numbers: commits until the process is killed, 0 for never; whether it is killed after that
        commit, and not before; commits so far; seconds by which the process's own clock is ahead
        of this machine's.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(32))
        with path.open("r+b") as file:
            self.numbers = memoryview(mmap.mmap(file.fileno(), 32)).cast("q")
        self._due = False

    def arm(self, commits: int, *, after: bool) -> None:
        """Have the process killed at one of its next commits; at none, where that is 0."""
        self.numbers[AFTER] = after
        self.numbers[COUNTDOWN] = commits

    def committing(self, *, after: bool) -> None:
        """A commit is about to begin, or has ended; the process may end here."""
        if not after:
            countdown = self.numbers[COUNTDOWN]
            self.numbers[COMMITS] += 1
            self._due = countdown == 1
            self.numbers[COUNTDOWN] = max(countdown - 1, 0)
        if self._due and self.numbers[AFTER] == after:
            os.kill(os.getpid(), signal.SIGKILL)


def watch_commits(control: Control, pages: int | None) -> None:
    """Tell `control` of every commit to a journal, which may grow by so many pages."""

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *values)
            control.committing(after=False)
            done = super().execute(sql, *values)
            control.committing(after=True)
            return done

    def connect(*words: Any, **more: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = plain(*words, factory=Watched, **more)
        if pages is not None:
            (count,) = connection.execute("PRAGMA page_count").fetchone()
            # A limit of 0 would mean no limit.
            connection.execute(f"PRAGMA max_page_count = {max(count + pages, 1)}")
        return connection

    plain: Any = sqlite3.connect
    sqlite3.connect = connect  # type: ignore[assignment]


def main() -> None:
    """Become the command."""
    control = Control(Path(sys.argv[1]))
    limits = json.loads(sys.argv[2])
    sys.argv = sys.argv[3:]
    sys.path[0] = os.getcwd()
    hurried: Any = importlib.import_module("tests.e2e.hurried")
    hurried.Clock.ahead = lambda: control.numbers[AHEAD]
    faulthandler.register(signal.SIGUSR1)
    watch_commits(control, limits.get("pages"))
    if "bytes" in limits:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (limits["bytes"],))
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

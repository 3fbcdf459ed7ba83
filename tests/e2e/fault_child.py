"""A live command as a process of the fault tests: hurried, and killed at a chosen commit.

    fault_child.py CONTROL LIMITS -m MODULE … | SCRIPT …

Waits are short, see `hurried.py`. CONTROL is a file of `Control`
that the driver shares. LIMITS is JSON: `pages`, by which journals may grow, and `bytes`, beyond
which no file may.
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
import struct
import sys
from pathlib import Path
from typing import Any

FIELDS = struct.Struct("=4q")


class Control:
    """Numbers in a file that a process and its driver share.

    countdown: commits until the process is killed; 0 for never.
    after: whether it is killed after that commit, and not before.
    commits: so far.
    ahead: seconds by which the process's own clock is ahead of this machine's.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(FIELDS.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), FIELDS.size)
        self._due = False

    def _read(self) -> list[int]:
        return list(FIELDS.unpack(self._memory[: FIELDS.size]))

    def _write(self, place: int, value: int) -> None:
        self._memory[place * 8 : place * 8 + 8] = struct.pack("=q", value)

    def arm(self, commits: int, *, after: bool) -> None:
        """Have the process killed at one of its next commits."""
        self._write(1, after)
        self._write(0, commits)

    def disarm(self) -> None:
        """Kill it at no commit."""
        self._write(0, 0)

    @property
    def commits(self) -> int:
        """Commits so far."""
        return self._read()[2]

    @property
    def ahead(self) -> int:
        """Seconds by which the process's own clock is ahead."""
        return self._read()[3]

    @ahead.setter
    def ahead(self, seconds: int) -> None:
        self._write(3, seconds)

    def committing(self, *, after: bool) -> None:
        """A commit is about to begin, or has ended; the process may end here."""
        countdown, wanted, commits, _ = self._read()
        if not after:
            self._write(2, commits + 1)
            self._due = countdown == 1
            self._write(0, max(countdown - 1, 0))
        if self._due and wanted == after:
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
            # A limit of 0 would be none.
            connection.execute(f"PRAGMA max_page_count = {max(count + pages, 1)}")
        return connection

    plain: Any = sqlite3.connect
    sqlite3.connect = connect  # type: ignore[assignment]


def limit_files(size: int | None) -> None:
    """Let no file of this process grow beyond so many bytes."""
    if size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main() -> None:
    """Become the command."""
    control = Control(Path(sys.argv[1]))
    limits = json.loads(sys.argv[2])
    sys.argv = sys.argv[3:]
    sys.path[0] = os.getcwd()
    hurried: Any = importlib.import_module("tests.e2e.hurried")
    hurried.Clock.ahead = lambda: control.ahead
    faulthandler.register(signal.SIGUSR1)
    watch_commits(control, limits["pages"])
    limit_files(limits["bytes"])
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()

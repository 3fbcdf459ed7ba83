"""The log file of a run, and lines that a loop prints."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from foundation.errors import InputError, shown
from foundation.files import keep_private

log = logging.getLogger(__name__)

LOGS = Path("logs")


def log_to_file(name: str, links: Sequence[str] = ()) -> None:
    """Send every log line, and libraries' warnings, to a file of this run in `logs/`.

    None of them goes to the screen. Only the owner may read them.

    links: names in `logs/`, without the suffix, of links to this file, made at its first line. A
        later run redirects them.
    """
    if LOGS.exists() and not LOGS.is_dir():
        raise InputError(f"{LOGS}: it is a file, and the folder of log files is needed there")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    handler = _RunLog(LOGS / f"{name}-{stamp}-{os.getpid()}.log", delay=True, links=links)
    handler.setFormatter(ShownFormatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    for earlier in root.handlers:
        if isinstance(earlier, _RunLog):
            earlier.close()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    if LOGS.is_dir():
        keep_private(LOGS)


@contextmanager
def printing() -> Iterator[None]:
    """What a loop prints within may be lost: a full disk or a closed terminal does not end it."""
    try:
        yield
        # A process that was started without a standard output has none.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        log.warning("it could not be printed: %s", error.strerror or error)


class ShownFormatter(logging.Formatter):
    """Lines of a log without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


class _RunLog(logging.FileHandler):
    """A log file that is created with its folder at its first line.

    links: names of links to it, without the suffix.
    """

    def __init__(self, path: Path, *, delay: bool, links: Sequence[str] = ()) -> None:
        super().__init__(path, delay=delay)
        self._links = links
        self._is_closed = False

    def close(self) -> None:
        """Close the file for good: a line of a thread that is still running opens none."""
        self._is_closed = True
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a disk that takes none stops nothing that the line is about."""
        if self._is_closed:
            return
        try:
            super().emit(record)
        except OSError as error:
            # Nothing is logged about it: that would come here again.
            with suppress(OSError):
                sys.stderr.write(f"{self.baseFilename}: cannot be written: {error.strerror}\n")

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        for name in self._links:
            _link_to(path, path.with_name(f"{name}.log"))
        return open(path, "a", encoding=self.encoding, opener=_owners)


def _link_to(file: Path, link: Path) -> None:
    """Point a relative link at a log file; an existing file of that name is renamed.

    The link is replaced atomically. If it cannot be made, the log is written without it.
    """
    staged = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        if link.exists() and not link.is_symlink():
            with suppress(FileNotFoundError):  # another process has kept it
                link.rename(file.with_name(f"{link.stem}-before-{file.name}"))
        staged.unlink(missing_ok=True)
        staged.symlink_to(file.name)
        staged.replace(link)
    except OSError as error:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
            sys.stderr.write(f"{link}: no link to {file.name}: {error.strerror or error}\n")


def _owners(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

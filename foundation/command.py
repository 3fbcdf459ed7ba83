"""What the command lines share: one-line errors, flags, the log file."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from foundation.errors import InputError, did_you_mean, nearest_or_all, shown
from foundation.files import release_outputs, remove_empty
from foundation.overrides import is_override as is_override
from foundation.overrides import quoted_value
from foundation.private import keep_private
from foundation.terminal import ShownFormatter
from foundation.undisturbed import interrupt_with

log = logging.getLogger(__name__)

LOGS = Path("logs")
SETTINGS = "key=value"  # by which a command that takes settings beside flags names them
# What argparse says of words.
_CHOICE = re.compile(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)")
_UNKNOWN = re.compile(r"unrecognized arguments: (\S+).*")
_LACKING = re.compile(r"the following arguments are required: (.+)")
_NO_VALUE = re.compile(r"argument (\S+): invalid (int|float) value: (.+)")


def fail(error: Exception) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"error: {shown(' '.join(str(error).split()))}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """Flags whose refusals are one line and exit code 2; `open_command` answers --help.

    example: of a whole command line, for whoever has left out a part of one.
    """

    def __init__(self, *, example: str = "", **options: Any) -> None:
        super().__init__(add_help=False, **options)
        self._example = example

    def error(self, message: str) -> NoReturn:
        """Print the refusal as one line and exit."""
        said = self._unknown_text(message) or _in_words(message)
        if self._example and _LACKING.fullmatch(message):
            said = f"{said}, as in `{self._example}`"
        fail(InputError(f"{said} (see --help)"))

    def _unknown_text(self, message: str) -> str:
        """What is said of words that are none of this command; empty for another message."""
        unknown = _UNKNOWN.fullmatch(message)
        if unknown is None:
            return ""
        word = unknown[1].partition("=")[0]
        if not word.startswith("-"):
            return f"{word!r} is one word too many"
        flags = list(self._option_string_actions)
        # Every flag begins with dashes, which makes any two look alike.
        alike = [flag for flag in flags if _may_be_meant(word.strip("-"), flag.strip("-"))]
        hint = did_you_mean(word, alike) or f"; here are {', '.join(flags)}"
        return f"{word}: there is no such flag{hint if flags else ''}"

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse's own, with key=value refused where a flag of that name is what is taken."""
        words = sys.argv[1:] if args is None else list(args)
        if not self._takes_settings():
            self._refuse_settings(words)
        return super().parse_known_args(words, namespace)

    def _takes_settings(self) -> bool:
        """Whether words key=value may be settings; with commands of its own, they say so."""
        named = (action.metavar for action in self._actions if isinstance(action.metavar, str))
        return self._subparsers is not None or any(SETTINGS in name for name in named)

    def _refuse_settings(self, words: Sequence[str]) -> None:
        flags = self._option_string_actions
        for before, word in pairwise(["", *words]):
            key, _, value = word.partition("=")
            flag = flags.get(f"--{key}")
            is_value = before in flags and flags[before].nargs != 0
            if flag is None or is_value or not is_override(word):
                continue
            typed = f"--{key}" if flag.nargs == 0 else f"--{key} {value}"
            self.error(f"{word}: {key} is a flag here; write {typed}")

    def refuse_others(self, words: Iterable[str]) -> None:
        """Refuse the first word that is no key=value."""
        for word in words:
            if not is_override(word):
                self.error(f"{word!r} is no flag and no key=value")


def _may_be_meant(word: str, name: str) -> bool:
    """Whether a word may be a mistaken name: it begins alike, or is one of the name's own words."""
    return word[:1] == name[:1] or word in name.split("-")


def overrides_of_flags(flags: Mapping[str, Any]) -> list[str]:
    """Hydra overrides for values by key; None and empty lists have none."""
    overrides = []
    for key, value in flags.items():
        if value is None or value == []:
            continue
        if isinstance(value, list):
            # Commas, brackets and colons are Hydra's grammar: a folder's name may have any of them.
            text = f"[{','.join(map(quoted_value, value))}]"
        else:
            text = quoted_value(str(value))
        overrides.append(f"{key}={text}")
    return overrides


def _in_words(message: str) -> str:
    """What argparse says of a word, as people say it; its own words where it is nothing known."""
    if choice := _CHOICE.fullmatch(message):
        flag, word, listed = choice.groups()
        known = [each.strip(" '\"") for each in listed.split(",")]
        place = "" if flag == "command" else f"{flag}: "
        return f"{place}invalid choice: {word!r}{nearest_or_all(word, known)}"
    if lacking := _LACKING.fullmatch(message):
        # argparse counts words key=value among them, which may be none.
        names = [name for name in lacking[1].split(", ") if name != SETTINGS]
        them = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        return f"{them} {'is' if len(names) == 1 else 'are'} missing"
    if value := _NO_VALUE.fullmatch(message):
        kind = "no whole number" if value[2] == "int" else "no number"
        return f"{value[1]}: {value[3]} is {kind}"
    return message


@contextmanager
def one_line_errors(interrupted: str) -> Iterator[list[Path]]:
    """End an `InputError` with one line and exit code 2, an interruption with 128 and its signal.

    A signal that tells the process to end is an interruption.

    interrupted: what is true after an interruption, for its line. Folders put into the list that
    this yields are removed after either, if nothing is in them.
    """
    folders: list[Path] = []
    try:
        with ended_by_signals():
            yield folders
    except InputError as error:
        _remove_empty(folders)
        fail(error)
    except KeyboardInterrupt as error:
        _remove_empty(folders)
        print(f"interrupted: {interrupted}", file=sys.stderr)  # noqa: T201
        sys.exit(128 + (error.number if isinstance(error, Ended) else signal.SIGINT))
    finally:
        release_outputs()


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        if folder.is_dir():
            remove_empty(folder)


def log_to_file(name: str) -> None:
    """Send every log line, and libraries' warnings, to a file of this run in `logs/`.

    None of them goes to the screen. Only the owner may read them.

    Raises
    ------
    InputError
        for a file in the place of the folder.
    """
    if LOGS.exists() and not LOGS.is_dir():
        raise InputError(f"{LOGS}: it is a file, and the folder of log files is needed there")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    handler = _RunLog(LOGS / f"{name}-{stamp}-{os.getpid()}.log", delay=True)
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


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End what is within as an interruption does, when the process is told to end or hangs up.

    A signal that the process was started to ignore, as by nohup, is ignored on. Outside the main
    thread, where Python lets nobody handle signals, nothing changes.

    Raises
    ------
    Ended
        within, at whatever it does then; after a transaction that is open.
    """

    told: list[signal.Signals] = []

    def end(number: int, _: object) -> None:
        told.append(signal.Signals(number))
        interrupt_with(Ended(told[0]))

    def interrupt(number: int, _: object) -> None:
        interrupt_with(KeyboardInterrupt())

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # While a command loads, ^C is answered otherwise (`open_command`).
    with (
        handled_signals((signal.SIGTERM, signal.SIGHUP), end),
        handled_signals((signal.SIGINT,), interrupt),
    ):
        try:
            yield
        except KeyboardInterrupt as error:
            # A library may make an interruption of its own of whatever a handler raises, as Ray
            # does where it waits.
            if told and not isinstance(error, Ended):
                raise Ended(told[0]) from error
            raise


@contextmanager
def handled_signals(
    numbers: Iterable[signal.Signals], act: Callable[[int, object], object]
) -> Iterator[None]:
    """Have signals handled within; one that the process was started to ignore is ignored on."""
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, act)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ended(KeyboardInterrupt):
    """The process was told to end; number: the signal that said so."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class _RunLog(logging.FileHandler):
    """A log file that exists, folder and all, from its first line on."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a disk that takes none stops nothing that the line is about."""
        try:
            super().emit(record)
        except OSError as error:
            # Nothing is logged about it: that would come here again.
            with suppress(OSError):
                sys.stderr.write(f"{self.baseFilename}: cannot be written: {error.strerror}\n")

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(path, "a", encoding=self.encoding, opener=_owners)


def _owners(path: str, flags: int) -> int:
    """A file that only its owner may read."""
    return os.open(path, flags, 0o600)

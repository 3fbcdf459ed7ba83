"""How a command ends: with one line and an exit code, also where a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from foundation.errors import InputError, escape_controls
from foundation.files import release_outputs, remove_empty

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_with_error(error: Exception) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"error: {escape_controls(' '.join(str(error).split()))}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


@contextmanager
def one_line_errors(interrupted: str) -> Iterator[list[Path]]:
    """End an `InputError` with one line and exit code 2, an interruption with 128 and its signal.

    A signal that tells the process to end is an interruption.

    interrupted: what is true after an interruption, for its line. Folders put into the list that
    this yields are removed after either, if nothing is in them.
    """
    folders: list[Path] = []
    try:
        with raise_on_signals():
            yield folders
    except InputError as error:
        _remove_empty(folders)
        exit_with_error(error)
    except KeyboardInterrupt as error:
        _remove_empty(folders)
        print(f"interrupted: {interrupted}", file=sys.stderr)  # noqa: T201
        sys.exit(128 + (error.number if isinstance(error, Terminated) else signal.SIGINT))
    finally:
        release_outputs()


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        if os.path.isdir(folder):
            remove_empty(folder)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """End what is within as an interruption does, when the process is told to end or hangs up.

    A signal that the process was started to ignore, as by nohup, is ignored on. Outside the main
    thread, where Python lets nobody handle signals, nothing changes. `Terminated` is raised within,
    at whatever it does then, or after a transaction that is open.
    """

    def end(number: int, _: object) -> None:
        _told.append(signal.Signals(number))
        _interrupt_with(Terminated(_told[0]))

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = len(_told)
    with handle_signals(ENDING_SIGNALS, end):
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            # A library may make an interruption, or an error, of its own of what a handler raises:
            # Ray does where it waits, pydantic where it compiles a class.
            if _told[before:] and not isinstance(error, Terminated):
                raise Terminated(_told[before]) from error
            raise
        finally:
            del _told[before:]


@contextmanager
def handle_signals(
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


_told: list[signal.Signals] = []  # signals heard by those of `raise_on_signals` that are open


def raise_if_signalled() -> None:
    """End where a signal has said so and its exception was lost, as in a finaliser."""
    if _told:
        raise Terminated(_told[0])


class Terminated(KeyboardInterrupt):
    """The process was told to end; number: the signal that said so."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class _Section:
    depth = 0  # of the main thread, where handlers run
    waiting: BaseException | None = None


def _interrupt_with(error: BaseException) -> None:
    """Raise an error from the handler of a signal, now or when nothing undisturbed is open."""
    if _Section.depth == 0:
        raise error
    _Section.waiting = _Section.waiting or error


class DeferSignals:
    """A section that no signal interrupts: one that ends the process is heard when it is over.

    A handler's exception comes between any two steps of the main thread. One that came just after a
    transaction had begun left it open, and what was written after that was never on the disk.
    Sections may hold others.
    """

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            _Section.depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if _Section.depth == 1 and _Section.waiting is not None:
            error, _Section.waiting = _Section.waiting, None
            _Section.depth = 0
            raise error
        _Section.depth -= 1

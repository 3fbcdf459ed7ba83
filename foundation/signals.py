"""Exit of a command after an error or a signal, with a one-line message and an exit code."""

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
from foundation.files import remove_empty_folder, unlock_output_folders

TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_with_error(error: InputError) -> NoReturn:
    """Print an error as one line and exit with its code."""
    print(f"error: {escape_controls(' '.join(str(error).split()))}", file=sys.stderr)  # noqa: T201
    sys.exit(error.exit_code)


@contextmanager
def exit_on_errors(interruption_text: str) -> Iterator[list[Path]]:
    """Exit with a one-line message and an exit code after an error in the block.

    The code of an `InputError` is its `exit_code`. It is 128 plus the signal's number for an
    interruption, by the keyboard or by a signal that ends the process.

    interruption_text: state of the output after an interruption, for the message.

    Yields a list, to which the block adds its output folders. After an error or an interruption,
    the empty folders of this list are removed.
    """
    folders: list[Path] = []
    try:
        with raise_on_signals():
            yield folders
    except InputError as error:
        _remove_empty_folders(folders)
        exit_with_error(error)
    except KeyboardInterrupt as error:
        _remove_empty_folders(folders)
        print(f"interrupted: {interruption_text}", file=sys.stderr)  # noqa: T201
        sys.exit(128 + (error.number if isinstance(error, TerminatedBySignal) else signal.SIGINT))
    finally:
        unlock_output_folders()


def _remove_empty_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        if os.path.isdir(folder):
            remove_empty_folder(folder)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise `TerminatedBySignal` when a signal, hang-ups included, would end the process.

    A signal that the process was started to ignore, as by nohup, stays ignored. Outside the main
    thread, where Python allows no signal handlers, the block runs without this protection. The
    error is raised at once, or in a `DeferSignals` block at the end of that block.
    """

    def raise_terminated(number: int, _: object) -> None:
        _received_signals.append(signal.Signals(number))
        _interrupt_with(TerminatedBySignal(_received_signals[0]))

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = len(_received_signals)
    with handle_signals(TERMINATION_SIGNALS, raise_terminated):
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            # A library may convert the exception of a handler to its own error or interruption: Ray
            # does in waits, pydantic while it compiles a class.
            if _received_signals[before:] and not isinstance(error, TerminatedBySignal):
                raise TerminatedBySignal(_received_signals[before]) from error
            raise
        finally:
            del _received_signals[before:]


@contextmanager
def handle_signals(
    numbers: Iterable[signal.Signals], handler: Callable[[int, object], object]
) -> Iterator[None]:
    """Call `handler` for each signal of `numbers` that arrives during the block.

    Signals that the process was started to ignore stay ignored.
    """
    before = {number: signal.getsignal(number) for number in numbers}
    for number, previous in before.items():
        if previous is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


_received_signals: list[
    signal.Signals
] = []  # signals received by the open blocks of `raise_on_signals`


def raise_if_signalled() -> None:
    """Raise `TerminatedBySignal` for an earlier signal whose exception was lost."""
    if _received_signals:
        raise TerminatedBySignal(_received_signals[0])


class TerminatedBySignal(KeyboardInterrupt):
    """An interruption by a signal that would have ended the process.

    number: number of the signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class _DeferredSection:
    depth = 0  # open sections of the main thread, where handlers run
    waiting: BaseException | None = None


def _interrupt_with(error: BaseException) -> None:
    """Raise an error from a signal handler: at once, or when the open `DeferSignals` block ends."""
    if _DeferredSection.depth == 0:
        raise error
    _DeferredSection.waiting = _DeferredSection.waiting or error


class DeferSignals:
    """A block that no signal interrupts: a termination signal takes effect at the block's end.

    Otherwise the exception of a signal handler can occur between any two steps of the main thread.
    If it occurred right after a transaction began, the transaction would stay open, and later
    writes would never reach the disk. Blocks may be nested.
    """

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            _DeferredSection.depth += 1

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if _DeferredSection.depth == 1 and _DeferredSection.waiting is not None:
            error, _DeferredSection.waiting = _DeferredSection.waiting, None
            _DeferredSection.depth = 0
            raise error
        _DeferredSection.depth -= 1

"""What no signal interrupts: one that ends the process is heard when that is over.

A handler's exception comes between any two steps of the main thread. One that came just after a
transaction had begun left it open, and what was written after that was never on the disk.
"""

from __future__ import annotations

import threading


class _Section:
    depth = 0  # of the main thread, where handlers run
    waiting: BaseException | None = None


def interrupt_with(error: BaseException) -> None:
    """Raise an error from the handler of a signal, now or when nothing undisturbed is open."""
    if _Section.depth == 0:
        raise error
    _Section.waiting = _Section.waiting or error


class Undisturbed:
    """A section that `interrupt_with` does not interrupt; sections may hold others."""

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

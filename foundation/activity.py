"""What a process does that takes long and counts nothing: a word for it beside its progress."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_under_way: list[str] = []
_COMPILER = logging.getLogger("foundation.compiled")  # its lines name what it compiles


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say of what is done within what it is, as `loading the checkpoint`."""
    _under_way.append(what)
    try:
        yield
    finally:
        _under_way.remove(what)


def current_activity() -> str:
    """What is being done now that counts nothing; empty where nothing is."""
    return _under_way[-1] if _under_way else ""


@contextmanager
def compilation_told() -> Iterator[Compilation]:
    """Say within which function is being compiled; needs a logger that takes its lines."""
    compilation = Compilation()
    _COMPILER.addHandler(compilation)
    try:
        yield compilation
    finally:
        _COMPILER.removeHandler(compilation)
        compilation.over()


class Compilation(logging.Handler):
    """The function that is being compiled, from when its compiler names it until `over`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.over()
        self._said = f"{record.getMessage()}, once for this installation"
        _under_way.append(self._said)

    def over(self) -> None:
        """Nothing is compiled any more: work goes on that counts."""
        if self._said in _under_way:
            _under_way.remove(self._said)
        self._said = ""

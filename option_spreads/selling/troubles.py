"""The troubles that a step of the seller meets, each told under a kind of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from foundation.errors import InputError
from foundation.notices import Notices

# What a step may meet and the next one may not: answers, files, numbers. Other errors are faults of
# the program.
TROUBLE = (OSError, ArithmeticError, ValueError, LookupError, TypeError, RecursionError)


class Troubles:
    """What one step has met so far; notices: told of each."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self.met: list[Exception] = []

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Keep trouble with a part of the step from ending it, and alert it as `step <what>`.

        The alert ends when that part goes through without trouble.
        """
        kind = f"step {what}"
        try:
            yield
        except TROUBLE as error:
            self.met.append(error)
            self._notices.alert(kind, trouble_text(error))
        else:
            self._notices.end_alert(kind)

    def raise_first(self) -> None:
        """Raise the first trouble, where there was any."""
        if self.met:
            raise self.met[0]


def trouble_text(error: Exception) -> str:
    """What a step met, in a line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"

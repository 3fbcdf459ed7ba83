"""What is printed: text of others is text, never markup and never a command to the terminal."""

from __future__ import annotations

import logging
import sys
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from foundation.errors import shown


class Terminal(Console):
    """Standard output, without markup: `[/x]` in a name stands there as `[/x]`."""

    def __init__(self, width: int | None = None, **options: Any) -> None:
        super().__init__(width=width, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text as it is shown."""
        return super().render_str(shown(text), **options)


def terminal(width: int = 120, stream: IO[str] | None = None, **options: Any) -> Terminal:
    """Where a command prints: as wide as the terminal, or `width` where there is none.

    stream: standard output unless it is given; options: of rich's console.
    """
    on_terminal = (stream or sys.stdout).isatty()
    return Terminal(None if on_terminal else width, file=stream, **options)


class LoopTerminal(Terminal):
    """A terminal whose reader may have gone: what is printed is lost, the loop is not."""

    def on_broken_pipe(self) -> None:
        """Raise what `printing` takes for a line that is lost."""
        raise BrokenPipeError("nobody reads what is printed")


class ShownFormatter(logging.Formatter):
    """Lines of a log without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as it is shown."""
        return shown(super().format(record))

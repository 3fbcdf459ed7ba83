"""What is printed: text of others is text, never markup and never a command to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, RenderableType
from rich.text import Text

from foundation.errors import shown

WIDTH = 160  # characters of a line where there is no terminal


class Terminal(Console):
    """Standard output, without markup: `[/x]` in a name stands there as `[/x]`."""

    def __init__(self, width: int | None = None, **options: Any) -> None:
        super().__init__(width=width, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)


def terminal(stream: IO[str] | None = None, **options: Any) -> Terminal:
    """Where a command prints: as wide as the terminal, or `WIDTH` where there is none.

    stream: standard output unless it is given; options: of rich's console.
    """
    on_terminal = (stream or sys.stdout).isatty()
    return Terminal(None if on_terminal else WIDTH, file=stream, **options)


def show_parts(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print tables and lines; off a terminal lines stay whole, on it they break between words."""
    for part in parts:
        is_line = isinstance(part, str) and not console.is_terminal
        console.print(part, highlight=False, soft_wrap=is_line)


class LoopTerminal(Terminal):
    """A terminal whose reader may have gone: what is printed is lost, the loop is not."""

    def on_broken_pipe(self) -> None:
        """Raise what `printing` takes for a line that is lost."""
        raise BrokenPipeError("nobody reads what is printed")

"""Text of others is text: no markup, and no command to the terminal that shows it."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from foundation import tables
from foundation.console import EscapingFormatter, Terminal, open_terminal
from foundation.errors import InputError, escape_controls
from foundation.signals import exit_with_error

HOSTILE = "\x1b[2J\x07[/nope][bold]:smile:\u202egnp.exe\x9b"
SEEN = "\\x1b[2J\\x07[/nope][bold]:smile:\\u202egnp.exe\\x9b"


def printed(*renderables: object) -> str:
    stream = io.StringIO()
    open_terminal(stream).print(*renderables)
    return stream.getvalue()


def test_printed_text_escapes_markup_and_controls() -> None:
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    assert printed(HOSTILE) == f"{SEEN}\n"
    assert printed(table).count(SEEN) == 3


def test_narrow_terminal_leaves_out_optional_columns() -> None:
    heads = [f"heading {k}" for k in range(8)]
    table = tables.Table("", heads, [[f"value {k}" for k in range(8)]], optional_columns=(5, 6, 7))
    for width, shown in ((160, 8), (84, 6), (60, 5)):
        stream = io.StringIO()
        Terminal(width, file=stream).print(table)
        lines = stream.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert sum(f"value {k}" in stream.getvalue() for k in range(8)) == shown


def test_errors_and_log_lines_escape_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        exit_with_error(InputError(HOSTILE))
    assert capsys.readouterr().err == f"error: {SEEN}\n"
    record = logging.LogRecord("n", logging.INFO, "", 1, "%s", (HOSTILE,), None)
    assert EscapingFormatter("%(message)s").format(record) == SEEN


@given(st.text())
def test_escaped_text_contains_no_control_or_bidi_characters(text: str) -> None:
    moving = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
    turning = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert not set(escape_controls(text)) & (moving | turning)
    harmless = "".join(set(text) - moving - turning - set("\u2028\u2029"))
    assert escape_controls(harmless) == harmless

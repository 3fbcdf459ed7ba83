"""Progress is bars on a terminal; elsewhere a line at the start, every 15 seconds, and the end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from foundation.console import Lines, progress_shown


def test_a_line_is_the_first_report_one_every_fifteen_seconds_and_one_at_the_end() -> None:
    seconds = [100.0]
    stream = io.StringIO()
    lines = Lines(Console(file=stream, width=200), lambda: seconds[0])
    written: list[int] = []
    for second in range(35):
        seconds[0] = 100.0 + second
        lines.tell("forecasts", second + 1, 4000)
        if stream.getvalue().count("\n") > len(written):
            written.append(second)
    assert written == [0, 15, 30]
    assert stream.getvalue().startswith("0 s: forecasts 1 of 4,000\n15 s: forecasts 16 of 4,000\n")
    lines.tell("bars", 2, 2)
    lines.end()
    last = stream.getvalue().splitlines()[-1]
    assert last == "done, 34 s: forecasts 35 of 4,000; bars 2 of 2"


def test_an_error_has_its_own_line_and_work_without_a_report_none() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with progress_shown(Console(file=stream)) as progress:
            progress("bars", 1, 2)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    assert "done" not in stream.getvalue()
    stream = io.StringIO()
    with progress_shown(Console(file=stream)):
        pass
    assert stream.getvalue() == ""


def test_on_a_terminal_there_are_bars() -> None:
    stream = io.StringIO()
    with progress_shown(Console(file=stream, force_terminal=True, width=100)) as progress:
        progress("bars", 2, 2)
    assert "2/2" in stream.getvalue()

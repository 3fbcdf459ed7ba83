"""Progress is bars on a terminal; elsewhere a line at the start, every 15 seconds, and the end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from foundation.progress import BETWEEN_LINES, Lines, progress_shown


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def lines_on(clock: Clock) -> tuple[Lines, io.StringIO]:
    stream = io.StringIO()
    return Lines(Console(file=stream, width=200), clock), stream


def test_the_first_report_is_a_line_at_once_and_the_last_one_at_the_end() -> None:
    clock = Clock()
    lines, stream = lines_on(clock)
    lines.tell("forecasts", 1, 4000)
    assert stream.getvalue() == "0 s: forecasts 1 of 4,000\n"
    clock.seconds += 5
    lines.tell("forecasts", 4000, 4000)
    lines.tell("bars", 2, 2)
    assert stream.getvalue().count("\n") == 1
    lines.end()
    assert stream.getvalue().splitlines()[1:] == [
        "done, 5 s: forecasts 4,000 of 4,000; bars 2 of 2"
    ]


def test_between_two_lines_at_least_fifteen_seconds_pass() -> None:
    clock = Clock()
    lines, stream = lines_on(clock)
    written: list[int] = []
    for second in range(100):
        clock.seconds = 100.0 + second
        lines.tell("bars", second, 100)
        if len(stream.getvalue().splitlines()) > len(written):
            written.append(second)
    assert written[:4] == [0, 15, 30, 45]
    assert BETWEEN_LINES == 15


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

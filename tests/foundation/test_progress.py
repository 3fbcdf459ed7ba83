"""Progress is bars on a terminal; elsewhere a line at the start, every 15 seconds, and the end."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from foundation.activity import current_activity, doing
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
    lines.end(finished=True)
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


def test_on_a_terminal_there_are_bars_and_a_sign_of_life_before_the_first_report() -> None:
    stream = io.StringIO()
    with progress_shown(Console(file=stream, force_terminal=True, width=100)) as progress:
        assert "working" in stream.getvalue()
        progress("bars", 2, 2)
    shown = stream.getvalue()
    assert "2/2" in shown
    assert "working" not in shown.splitlines()[-1]


def test_what_counts_nothing_is_named_in_the_lines_and_below_the_bars() -> None:
    clock = Clock()
    lines, stream = lines_on(clock)
    with doing("loading the checkpoint"):
        clock.seconds += 16
        lines.write_if_due()
    lines.tell("bars", 1, 2)
    assert stream.getvalue().splitlines() == ["16 s: loading the checkpoint", "16 s: bars 1 of 2"]
    stream = io.StringIO()
    with (
        progress_shown(Console(file=stream, force_terminal=True, width=100)) as progress,
        doing("loading the checkpoint"),
    ):
        progress("bars", 2, 2)
    assert "loading the checkpoint …" in stream.getvalue()


def test_a_function_that_is_compiled_is_named_until_work_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with progress_shown(Console(file=io.StringIO())) as progress:
        for name in ("settle", "margin"):
            logging.getLogger("foundation.compiled").info("compiling %s", name)
            assert current_activity() == f"compiling {name}, once for this installation"
        progress("bars", 1, 2)
        assert current_activity() == ""
        logging.getLogger("foundation.compiled").info("compiling %s", "again")
    assert current_activity() == ""

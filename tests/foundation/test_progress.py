"""A open_terminal shows bars; other outputs get a line first, every two seconds, and last."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest
from rich.console import Console

from foundation.console import ProgressLines, open_terminal, show_progress


def test_progress_is_printed_every_two_seconds_and_finally() -> None:
    seconds = [100.0]
    stream = io.StringIO()
    lines = ProgressLines(Console(file=stream, width=200), lambda: seconds[0])
    written: list[int] = []
    for second in range(5):
        seconds[0] = 100.0 + second
        lines.report("forecasts", second + 1, 4000)
        if stream.getvalue().count("\n") > len(written):
            written.append(second)
    assert written == [0, 2, 4]
    assert stream.getvalue().startswith("0 s: forecasts 1 of 4,000\n2 s: forecasts 3 of 4,000\n")
    lines.report("bars", 2, 2)
    lines.write_final_counts()
    last = stream.getvalue().splitlines()[-1]
    assert last == "done, 4 s: forecasts 5 of 4,000; bars 2 of 2"


def test_progress_line_repeats_while_step_reports_nothing() -> None:
    seconds = [0.0]
    stream = io.StringIO()
    lines = ProgressLines(Console(file=stream, width=200), lambda: seconds[0])
    for second in (1.0, 2.0, 3.0, 4.0):
        seconds[0] = second
        lines.write_if_due()
    lines.report("bars", 1, 2)
    seconds[0] = 6.0
    lines.write_if_due()
    assert stream.getvalue() == "2 s: starting\n4 s: starting\n4 s: bars 1 of 2\n6 s: bars 1 of 2\n"


def test_error_gets_its_own_line_without_progress() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with show_progress(Console(file=stream)) as progress:
            progress("bars", 1, 2)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    assert "done" not in stream.getvalue()
    stream = io.StringIO()
    with show_progress(Console(file=stream)):
        pass
    assert stream.getvalue() == ""


def test_progress_bars_appear_on_a_terminal() -> None:
    stream = io.StringIO()
    with show_progress(Console(file=stream, force_terminal=True, width=100)) as progress:
        progress("bars", 2, 2)
    assert "2/2" in stream.getvalue()


def test_dumb_terminal_gets_progress_lines_not_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    with show_progress(Console(file=stream, force_terminal=True)) as progress:
        progress("bars", 1, 9)
        assert stream.getvalue() == "0 s: bars 1 of 9\n"


class FullDisk(io.StringIO):
    """A file on a disk that takes nothing more."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_during_progress_output_stops_no_work() -> None:
    with show_progress(Console(file=FullDisk())) as progress:
        progress("bars", 1, 9)


def test_printing_to_closed_standard_output_raises_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    open_terminal().print("lost")

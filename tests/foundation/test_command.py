"""What a loop prints ends nothing, and a signal that ends a process is told of."""

# Private access: the handler of the log file is given a folder that cannot be written.
from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from foundation.console import (
    PipeTolerantTerminal,
    _RunLogHandler,
    log_to_file,
    tolerate_print_errors,
)
from foundation.signals import TerminatedBySignal, exit_on_errors, raise_on_signals
from tests.e2e.refused import restored_logging


@pytest.fixture
def full() -> Iterator[TextIO]:
    """A terminal that takes nothing."""
    with open("/dev/full", "w", buffering=1) as stream:
        yield stream
        # What is left of the lines would be written when the file is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_full_disk_drops_output_lines_without_error(
    full: TextIO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    for words in ("short", "long " * 100_000):
        with tolerate_print_errors():
            sys.stdout.write(words)
    assert caplog.text.count("could not be printed: No space left") == 2


def test_unwritable_log_and_terminal_raise_no_error(
    full: TextIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").write_text("a file where the folder of log files belongs")
    handler = _RunLogHandler(tmp_path / "logs" / "run.log", delay=True)
    logger = logging.getLogger()
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(sys, "stderr", full)
    for _ in range(3):
        logging.getLogger("any").error("a line that goes nowhere")
        with tolerate_print_errors():
            sys.stderr.write("and another\n")


def test_closed_pipe_does_not_stop_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        with tolerate_print_errors():
            PipeTolerantTerminal(file=gone).print("nobody reads this " * 10_000)
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with raise_on_signals():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def _interrupted_by_whatever_is_raised(number: signal.Signals) -> None:
    """What Ray does where it waits."""
    try:
        os.kill(os.getpid(), number)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminating_signal_is_handled_as_an_interruption(number: signal.Signals) -> None:
    # The tests themselves may have been started by nohup.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(TerminatedBySignal, match=number.name), raise_on_signals():
            _interrupted_by_whatever_is_raised(number)
        with pytest.raises(TerminatedBySignal, match=number.name), raise_on_signals():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_DFL
        with pytest.raises(SystemExit) as end, exit_on_errors("all is well"), raise_on_signals():
            os.kill(os.getpid(), number)
        assert end.value.code == 128 + number
    finally:
        signal.signal(number, before)


@pytest.fixture
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to write logs to; the handlers of this process are put back."""
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield tmp_path / "logs"
    for handler in {*root.handlers} - {*before}:
        handler.close()
    root.handlers[:], root.level = before, level
    logging.captureWarnings(False)


def test_log_links_lead_to_the_newest_log(log_folder: Path) -> None:
    for name in ("first", "second"):
        log_to_file(name, ("newest", "same"))
        logging.getLogger().warning("Enhanced Kelly sizing by %s", name)
        for link in ("newest.log", "same.log"):
            path = log_folder / link
            assert not path.readlink().is_absolute()
            assert f"Enhanced Kelly sizing by {name}" in path.read_text()
            assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name[:6] for path in log_folder.iterdir()) == [
        *("first-", "newest", "same.l", "second")
    ]


def test_existing_file_at_log_symlink_path_is_kept(log_folder: Path) -> None:
    log_folder.mkdir()
    (log_folder / "newest.log").write_text("years of another program")
    log_to_file("run", ("newest",))
    logging.getLogger().warning("something")
    assert "something" in (log_folder / "newest.log").read_text()
    [kept] = log_folder.glob("newest-before-run-*.log")
    assert kept.read_text() == "years of another program"
    assert kept.stat().st_mode & 0o077 == 0


MANY = """
import logging
from foundation.console import log_to_file
for number in range(50):
    log_to_file(f"run{number}", ("newest",))
    logging.getLogger().warning("something")
"""


def test_two_processes_share_a_log_link(log_folder: Path) -> None:
    log_folder.mkdir()
    (log_folder / "newest.log").write_text("earlier")
    root = Path(__file__).resolve().parent.parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", MANY]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) for _ in range(2)]
    for each in running:
        assert each.communicate()[1] == b""
    assert "something" in (log_folder / "newest.log").read_text()
    assert not list(log_folder.glob(".newest*"))
    [kept] = log_folder.glob("newest-before-*")
    assert kept.read_text() == "earlier"


@pytest.mark.parametrize("target", ["gone.log", "newest.log"])
def test_a_broken_log_link_is_replaced(log_folder: Path, target: str) -> None:
    log_folder.mkdir()
    (log_folder / "newest.log").symlink_to(target)
    log_to_file("run", ("newest",))
    logging.getLogger().warning("something")
    assert "something" in (log_folder / "newest.log").read_text()


def test_log_is_written_even_if_symlink_fails(
    log_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refused)
    log_to_file("run", ("newest",))
    logging.getLogger().warning("something")
    [file] = log_folder.iterdir()
    assert "something" in file.read_text()
    assert "newest.log: link to run-" in capsys.readouterr().err


def test_second_run_in_a_process_closes_first_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        log_to_file("first")
        root.warning("something")
        [first] = root.handlers
        assert isinstance(first, logging.FileHandler)
        log_to_file("second")
        assert first.stream is None
    finally:
        root.handlers[:] = before


def test_log_record_after_closing_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with restored_logging():
        log_to_file("run")
        logging.getLogger("a").info("written")
        (handler,) = logging.getLogger().handlers
    handler.emit(logging.makeLogRecord({"msg": "late", "levelno": logging.INFO}))
    (log,) = (tmp_path / "logs").iterdir()
    assert "late" not in log.read_text()
